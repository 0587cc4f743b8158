"""MMDetection's data sets and loading with errors that name the file."""

from .coco import CocoDataset, Objects365V1Dataset, Objects365V2Dataset
from .crowdhuman import CrowdHumanDataset
from .lvis import LVISV1Dataset
from .seeding import (
    ClassBalancedDataset,
    ConcatDataset,
    RepeatDataset,
    SeedAugmentation,
    SeededDefaultSampler,
    SeededInfiniteSampler,
)
from .transforms import LoadImageFromFile, PackDetInputs
from .voc import VOCDataset
from .yolo import YOLODataset

__all__ = [
    'ClassBalancedDataset',
    'CocoDataset',
    'ConcatDataset',
    'CrowdHumanDataset',
    'LVISV1Dataset',
    'LoadImageFromFile',
    'Objects365V1Dataset',
    'Objects365V2Dataset',
    'PackDetInputs',
    'RepeatDataset',
    'SeedAugmentation',
    'SeededDefaultSampler',
    'SeededInfiniteSampler',
    'VOCDataset',
    'YOLODataset',
]
