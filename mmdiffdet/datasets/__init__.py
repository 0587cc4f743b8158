"""MMDetection's data sets and loading with errors that name the file."""
from .coco import CocoDataset
from .loading import LoadImageFromFile
from .seeding import SeedAugmentation, SeededInfiniteSampler
from .voc import VOCDataset

__all__ = [
    'CocoDataset', 'LoadImageFromFile', 'SeedAugmentation',
    'SeededInfiniteSampler', 'VOCDataset'
]
