"""Matcher, criterion and single losses."""
from .criterion import DiffusionDetCriterion
from .federated import FederatedClasses
from .matcher import DynamicKMatcher, Match
from .quality_loss import QualityLoss
from .topology_loss import TopologyLoss

__all__ = [
    'DiffusionDetCriterion', 'DynamicKMatcher', 'FederatedClasses', 'Match',
    'QualityLoss', 'TopologyLoss'
]
