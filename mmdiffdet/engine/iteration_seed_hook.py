"""Draws of an iteration that do not depend on the ones before."""

from typing import Optional

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..diffusion.noise import stable_seed
from ..registry import HOOKS


@HOOKS.register_module()
class IterationSeedHook(Hook):
    """Seed torch before each training iteration, from (seed, rank, iter).

    A resumed run then draws what the uninterrupted one would have drawn, on
    every rank, and no generator's state has to be saved. Together with
    ``SeededInfiniteSampler`` it ends at the same weights on one machine.

    Args:
        seed (int, optional): Of the noise of training, where it is to differ from
            that of the initial weights and the order of images. Defaults to the
            train seed.
    """

    priority = 'VERY_HIGH'

    def __init__(self, seed: Optional[int] = None) -> None:
        self.seed = seed

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Optional[dict] = None
    ) -> None:
        """Seed all of torch's generators."""
        seed = runner.seed if self.seed is None else self.seed
        torch.manual_seed(stable_seed(seed, get_rank(), runner.iter))
