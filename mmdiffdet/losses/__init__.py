"""Assigner, criterion and single losses."""

from .assigner import DynamicKAssigner
from .criterion import DiffusionDetCriterion
from .elementwise import GIoULoss, QualityFocalLoss
from .federated import FederatedClasses
from .objects import PaddedObjects
from .quality_loss import QualityLoss
from .topology_loss import TopologyLoss

__all__ = [
    'DiffusionDetCriterion',
    'DynamicKAssigner',
    'FederatedClasses',
    'GIoULoss',
    'PaddedObjects',
    'QualityFocalLoss',
    'QualityLoss',
    'TopologyLoss',
]
