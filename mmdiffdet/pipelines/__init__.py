"""Detecting in images: the pipeline, and its export."""

from .detection_pipeline import DetectionPipelineOutput, DiffusionDetPipeline
from .model import DiffusionDetModel

__all__ = ['DetectionPipelineOutput', 'DiffusionDetModel', 'DiffusionDetPipeline']
