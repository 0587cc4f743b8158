"""One way to sample, which a test has a result of, and what its results are called."""

import os.path as osp
import re
from typing import Any, Dict, NamedTuple, Optional

from mmengine.config import ConfigDict

from ..diffusion.box_schedulers import has_eta
from ..diffusion.sampling import SamplingVariant
from ..ledger.protocol import NO_SAMPLER


class TestCase(NamedTuple):
    """A variant with what it was made from.

    Args:
        name (str): E.g. ``seed0_step4``.
        sampler_cfg (ConfigDict): Config that the sampler was built from.
        variant (SamplingVariant, optional): What the detector is given; None
            for one that does not sample.
    """

    name: str
    sampler_cfg: ConfigDict
    variant: Optional[SamplingVariant] = None

    __test__ = False  # no test, whatever its name says

    @property
    def eval_seed(self) -> int:
        """Seed of the sampling noise; 0 of a detector that does not sample."""
        return 0 if self.variant is None else self.variant.eval_seed

    @property
    def protocol(self) -> Dict[str, Any]:
        """``sample_step``, ``scheduler`` and ``eta`` for the ledger."""
        if self.variant is None:
            return dict(sample_step=1, scheduler=NO_SAMPLER, eta=None)
        sampler = self.variant.sampler
        return dict(
            sample_step=sampler.sampling_timesteps,
            scheduler=type(sampler.scheduler).__name__,
            eta=float(sampler.eta) if has_eta(sampler.scheduler) else None,
        )


def experiment_of(checkpoint: str, name: Optional[str] = None) -> str:
    """Name of a checkpoint's experiment, the same for all train seeds.

    ``work_dirs/distill_20to1_seed3/iter_2500.pth`` is
    ``distill_20to1@iter_2500``. A finalised checkpoint brings the name of the
    one that it was made from.

    Args:
        checkpoint (str): Path.
        name (str, optional): What it says of itself.
    """
    if name is None:
        folder = osp.basename(osp.dirname(osp.abspath(checkpoint)))
        stem = osp.splitext(osp.basename(checkpoint))[0]
        name = f'{folder}@{stem}'
    return re.sub(r'_?seed\d+', '', name)
