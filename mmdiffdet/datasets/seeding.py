"""Augmentation that depends on the seed and the position in training only.

It does not depend on the number of worker processes, nor on where a run was resumed.
"""

import itertools
import random
from typing import Iterator, Tuple

import mmdet.datasets
import mmengine.dataset
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.dataset import DefaultSampler, InfiniteSampler

from ..diffusion.noise import stable_seed
from ..registry import DATA_SAMPLERS, DATASETS, TRANSFORMS


class SeededIndex(int):
    """An index into a data set that carries a seed for the image's augmentation."""

    seed: int

    def __new__(cls, index: int, seed: int) -> 'SeededIndex':
        self = super().__new__(cls, index)
        self.seed = seed
        return self

    def __getnewargs__(self) -> tuple:
        return int(self), self.seed


@DATA_SAMPLERS.register_module()
class SeededInfiniteSampler(InfiniteSampler):
    """MMEngine's sampler, whose indices carry a seed of (seed, rank, position).

    For pipelines that begin with :class:`SeedAugmentation`.
    """

    _start = 0

    def __iter__(self) -> Iterator[SeededIndex]:
        for position, index in zip(itertools.count(self._start), self.indices):
            yield SeededIndex(index, stable_seed(self.seed, self.rank, position))

    def skip(self, num_samples: int) -> None:
        """Begin at the position at which training is resumed."""
        super().skip(num_samples)
        self._start = num_samples


@DATA_SAMPLERS.register_module()
class SeededDefaultSampler(DefaultSampler):
    """MMEngine's sampler by epochs, with a seed of (seed, rank, epoch, position).

    For pipelines that begin with :class:`SeedAugmentation`.
    """

    def __iter__(self) -> Iterator[SeededIndex]:
        for position, index in enumerate(super().__iter__()):
            seed = stable_seed(self.seed, self.rank, 'epoch', self.epoch, position)
            yield SeededIndex(index, seed)


@TRANSFORMS.register_module()
class SeedAugmentation(BaseTransform):
    """Seed the generators that later transforms draw from.

    An index without a seed changes nothing: that of another sampler, or the one that
    MMEngine draws itself in place of an image that was filtered out.
    """

    def transform(self, results: dict) -> dict:
        """Seed ``random``, NumPy and torch from ``results['sample_idx']``."""
        seed = getattr(results['sample_idx'], 'seed', None)
        if seed is not None:
            random.seed(seed)
            np.random.seed(seed % 2**32)
            torch.manual_seed(seed)
        return results


def _seeded(outer: int, inner: int) -> int:
    seed = getattr(outer, 'seed', None)
    return inner if seed is None else SeededIndex(inner, seed)


@DATASETS.register_module()
class ClassBalancedDataset(mmengine.dataset.ClassBalancedDataset):
    """MMEngine's wrapper that repeats images of rare classes."""

    def _get_ori_dataset_idx(self, idx: int) -> int:
        return _seeded(idx, super()._get_ori_dataset_idx(idx))


@DATASETS.register_module()
class RepeatDataset(mmengine.dataset.RepeatDataset):
    """MMEngine's wrapper that goes through a data set several times."""

    def _get_ori_dataset_idx(self, idx: int) -> int:
        return _seeded(idx, super()._get_ori_dataset_idx(idx))


@DATASETS.register_module()
class ConcatDataset(mmdet.datasets.ConcatDataset):
    """MMDetection's wrapper of several data sets."""

    def _get_ori_dataset_idx(self, idx: int) -> Tuple[int, int]:
        number, inner = super()._get_ori_dataset_idx(idx)
        return number, _seeded(idx, inner)
