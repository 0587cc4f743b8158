"""The reverse process as a config describes it."""

from dataclasses import dataclass, replace
from itertools import chain, repeat
from typing import Callable, List, Optional, Sequence

from torch import Tensor

from ..registry import TASK_UTILS
from .box_codec import BoxCodec
from .box_schedulers import build_box_scheduler, check_timesteps, has_history
from .label_scheduler import D3PMScheduler
from .noise import PerImageNoise
from .prediction import Prediction
from .sampling import Denoise, SamplingStep, sample


@TASK_UTILS.register_module()
class DiffusionSampler:
    """Noise to the predictions that become detections.

    Args:
        scheduler (dict): A Diffusers scheduler, see
            :func:`~mmdiffdet.diffusion.box_schedulers.build_box_scheduler`.
        sampling_timesteps (int): Number of steps. Defaults to 1.
        eta (float): Of DDIM; other schedulers ignore it. Defaults to 1.
        renewal (dict, optional): Config of ``BoxRenewal``; None switches it
            off.
        ensemble (dict, optional): Config of ``StepEnsemble``; None uses the
            last step alone.
        guidance (dict, optional): Config of ``QualityGuidance``.
        stages_per_step (Sequence[int], optional): Stages of the head that
            each step runs, counted from the cascade's first; the last number
            holds for the steps that remain. None, the default, runs all.

    Raises:
        ValueError: If ``sampling_timesteps`` is not in 1..T, ``eta`` is
            negative, ``stages_per_step`` is no list of positive numbers, or
            a multistep solver is combined with renewal: the solver
            extrapolates from a proposal's earlier predictions, which renewal
            makes those of another box.
    """

    def __init__(
        self,
        scheduler: dict,
        sampling_timesteps: int = 1,
        eta: float = 1.0,
        renewal: Optional[dict] = None,
        ensemble: Optional[dict] = None,
        guidance: Optional[dict] = None,
        stages_per_step: Optional[Sequence[int]] = None,
    ) -> None:
        self.scheduler = build_box_scheduler(scheduler)
        check_timesteps(sampling_timesteps, self.scheduler.config.num_train_timesteps)
        if eta < 0:
            raise ValueError(f'sampler: eta must be >= 0, got {eta}')
        if stages_per_step is not None and not (
            isinstance(stages_per_step, (list, tuple))
            and stages_per_step
            and all(type(n) is int and n > 0 for n in stages_per_step)
        ):
            raise ValueError(
                'sampler: stages_per_step must be a list of numbers of stages '
                f'from 1, e.g. [6, 2], got {stages_per_step!r}'
            )
        if renewal is not None and has_history(self.scheduler):
            raise ValueError(
                f'{type(self.scheduler).__name__} is a multistep solver and '
                'cannot be combined with box renewal: set '
                'model.sampler.renewal=None'
            )
        self.sampling_timesteps = sampling_timesteps
        self.eta = eta
        self.renewal = renewal and TASK_UTILS.build(renewal)
        self.ensemble = ensemble and TASK_UTILS.build(ensemble)
        self.guidance = guidance and TASK_UTILS.build(guidance)
        self.stages_per_step = stages_per_step

    @property
    def timesteps(self) -> Tensor:
        """The timesteps that it visits, in their order."""
        self.scheduler.set_timesteps(self.sampling_timesteps)
        return self.scheduler.timesteps

    def __call__(
        self,
        denoise: Denoise,
        codec: BoxCodec,
        image_sizes: Tensor,
        num_proposals: int,
        noise: PerImageNoise,
        label_scheduler: Optional[D3PMScheduler] = None,
        callback: Optional[Callable[[SamplingStep], None]] = None,
    ) -> List[Prediction]:
        """Predictions to merge, one or one a step.

        Args:
            denoise (Callable): See :func:`~mmdiffdet.diffusion.sample`; with
                ``stages_per_step`` it is given a fourth argument.
            codec (BoxCodec): Signal to boxes and back.
            image_sizes (Tensor): (B, 2), height and width without padding.
            num_proposals (int): N.
            noise (PerImageNoise): One generator an image.
            label_scheduler (D3PMScheduler, optional): Label diffusion.
            callback (Callable, optional): Called with each step.
        """
        steps: List[Prediction] = []

        def collect(step: SamplingStep) -> None:
            if self.ensemble is not None:
                # less the function, which holds the features of its step
                steps.append(replace(step.prediction, quality_of=None))
            if callback is not None:
                callback(step)

        self.scheduler.set_timesteps(self.sampling_timesteps)
        stages = self.stages_per_step and chain(
            self.stages_per_step, repeat(self.stages_per_step[-1])
        )

        def staged(boxes: Tensor, label_state: Optional[Tensor], t: Tensor) -> Prediction:
            return denoise(boxes, label_state, t, next(stages))

        last = sample(
            denoise if stages is None else staged,
            self.scheduler,
            noise(num_proposals, 4),
            noise,
            codec,
            image_sizes,
            eta=self.eta,
            label_scheduler=label_scheduler,
            guidance=self.guidance,
            renewal=self.renewal,
            callback=collect,
        )
        return [last] if self.ensemble is None else self.ensemble(steps)


@dataclass(frozen=True)
class SamplingVariant:
    """One way to sample from given features.

    Args:
        sampler (DiffusionSampler): Scheduler, steps, renewal, guidance.
        eval_seed (int): Seeds the noise, together with the image id.
        num_proposals (int, optional): Instead of ``test_cfg.num_proposals``.
    """

    sampler: DiffusionSampler
    eval_seed: int
    num_proposals: Optional[int] = None
