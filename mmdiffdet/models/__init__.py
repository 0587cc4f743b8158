"""Networks: detector, cascade head, one stage and its parts."""

from .data_preprocessor import DetDataPreprocessor
from .detector import DiffusionDet
from .dynamic_conv import DynamicConv
from .head import DiffusionDetHead
from .interaction import NoInteraction, SelfAttention
from .parts import GeometryBias, GeometryFeature, LabelEmbedding, QualityHead
from .roi_gather import FeatureTable, GatherRoIExtractor
from .stage import DiffusionDetStage
from .structures import HeadOutput, StageContext, StageOutput
from .tta import DiffusionDetTTA

__all__ = [
    'DetDataPreprocessor',
    'DiffusionDet',
    'DiffusionDetHead',
    'DiffusionDetStage',
    'DiffusionDetTTA',
    'DynamicConv',
    'FeatureTable',
    'GatherRoIExtractor',
    'GeometryBias',
    'GeometryFeature',
    'HeadOutput',
    'LabelEmbedding',
    'NoInteraction',
    'QualityHead',
    'SelfAttention',
    'StageContext',
    'StageOutput',
]
