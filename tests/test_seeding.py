"""Seeds of indices and what they seed, by hand."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mmdiffdet.datasets import SeedAugmentation, SeededDefaultSampler, SeededInfiniteSampler
from mmdiffdet.datasets.counts import base_datasets, images_per_class
from mmdiffdet.datasets.seeding import SeededIndex, _seeded
from mmdiffdet.diffusion.noise import stable_seed


def test_an_index_has_the_seed_of_its_position():
    endless = SeededInfiniteSampler(range(3), shuffle=False, seed=4)
    endless.skip(2)
    found = [(int(i), i.seed) for i, _ in zip(endless, range(3))]
    assert found == [(k % 3, stable_seed(4, 0, k)) for k in (2, 3, 4)]
    fresh = next(iter(SeededInfiniteSampler(range(3), shuffle=False, seed=4)))
    assert fresh.seed == stable_seed(4, 0, 0)
    epochs = SeededDefaultSampler(range(2), shuffle=False, seed=4)
    epochs.set_epoch(5)
    found = [(int(i), i.seed) for i in epochs]
    assert found == [(k, stable_seed(4, 0, 'epoch', 5, k)) for k in (0, 1)]
    assert _seeded(SeededIndex(7, 9), 3).seed == 9 and not hasattr(_seeded(7, 3), 'seed')


@pytest.mark.parametrize('seed', [0, 2**32 - 1, 2**32, 2**63 - 1])
def test_all_generators_are_seeded(seed):
    """NumPy's takes 32 bits."""
    SeedAugmentation()(dict(sample_idx=SeededIndex(0, seed)))
    found = random.random(), np.random.rand(), torch.rand(1).item()
    generator = torch.Generator().manual_seed(seed)
    assert found == (
        random.Random(seed).random(),
        np.random.RandomState(seed & 0xFFFFFFFF).rand(),
        torch.rand(1, generator=generator).item(),
    )


def test_classes_are_counted_by_image():
    """Once an image, in all data sets within wrappers."""

    class Part:
        def __init__(self, *labels):
            self.labels = labels
            self.get_cat_ids = labels.__getitem__

        def __len__(self):
            return len(self.labels)

    first, second = Part([0, 0, 2], []), Part([2])
    both = SimpleNamespace(datasets=[first, SimpleNamespace(dataset=second)])
    assert list(base_datasets(both)) == [first, second]
    assert images_per_class(both, 4) == [1, 0, 2, 0]
    del second.get_cat_ids
    with pytest.raises(ValueError, match='Part has no get_cat_ids; give class_frequency'):
        images_per_class(both, 4)
