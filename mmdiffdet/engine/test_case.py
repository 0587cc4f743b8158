"""One way to sample, which a test has a result of."""

from typing import Any, Dict, NamedTuple, Optional

from mmengine.config import ConfigDict

from ..diffusion.sampling import SamplingVariant
from ..ledger.protocol import NO_SAMPLER, WITHOUT_ETA


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
        name = type(sampler.scheduler).__name__
        return dict(
            sample_step=sampler.sampling_timesteps,
            scheduler=name,
            eta=None if name in WITHOUT_ETA else float(sampler.eta),
        )
