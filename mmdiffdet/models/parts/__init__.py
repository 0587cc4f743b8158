"""Parts of a stage, one file each; they know nothing of each other."""

from .geometry_bias import GeometryBias
from .geometry_feature import GeometryFeature
from .label_embedding import LabelEmbedding
from .quality_head import QualityHead

__all__ = ['GeometryBias', 'GeometryFeature', 'LabelEmbedding', 'QualityHead']
