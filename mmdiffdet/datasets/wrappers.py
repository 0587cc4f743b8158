"""MMEngine's data set wrappers that hand on the seed of an index."""

from typing import Tuple

import mmdet.datasets
import mmengine.dataset

from ..registry import DATASETS
from .seeding import SeededIndex


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
