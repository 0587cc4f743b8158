"""Metrics whose values are not rounded."""

from .coco_metric import CocoMetric
from .crowdhuman_metric import CrowdHumanMetric
from .lvis_metric import LVISMetric

__all__ = ['CocoMetric', 'CrowdHumanMetric', 'LVISMetric']
