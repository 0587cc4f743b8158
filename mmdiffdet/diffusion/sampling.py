"""The reverse process, noise to boxes: one function, and what a config makes of it."""

import warnings
from dataclasses import dataclass, replace
from itertools import chain, repeat
from typing import Callable, List, Optional, Sequence

import diffusers
import torch
from torch import Tensor

from ..registry import TASK_UTILS
from .box_codec import BoxCodec
from .box_schedulers import build_box_scheduler, has_eta, has_history, scheduler_step
from .guidance import QualityGuidance
from .label_scheduler import D3PMScheduler
from .noise import PerImageNoise
from .prediction import Prediction
from .renewal import BoxRenewal
from .timesteps import check_timesteps

Denoise = Callable[[Tensor, Optional[Tensor], Tensor], Prediction]


@dataclass
class SamplingStep:
    """What a callback sees of one step.

    Args:
        index (int): Of the step, from 0.
        t (int): Its timestep.
        boxes (Tensor): (B, N, 4), the noisy boxes that went in.
        prediction (Prediction): What came out, boxes after guidance.
        renewed (Tensor, optional): (B, N) bool, proposals that begin anew.
    """

    index: int
    t: int
    boxes: Tensor
    prediction: Prediction
    renewed: Optional[Tensor] = None


def sample(
    denoise: Denoise,
    scheduler: diffusers.SchedulerMixin,
    x: Tensor,
    noise_sampler: PerImageNoise,
    codec: BoxCodec,
    image_sizes: Tensor,
    eta: float = 1.0,
    label_scheduler: Optional[D3PMScheduler] = None,
    sample_labels: bool = False,
    guidance: Optional[QualityGuidance] = None,
    renewal: Optional[BoxRenewal] = None,
    callback: Optional[Callable[[SamplingStep], None]] = None,
) -> Prediction:
    """Run the reverse process over the scheduler's timesteps.

    Args:
        denoise (Callable): (boxes (B, N, 4) in pixels, label state, t) to
            :class:`Prediction`; the network with its features.
        scheduler (SchedulerMixin): With timesteps set.
        x (Tensor): (B, N, 4) standard normal noise, the start.
        noise_sampler (PerImageNoise): Every further draw.
        codec (BoxCodec): Signal to boxes and back.
        image_sizes (Tensor): (B, 2), height and width without padding.
        eta (float): Of DDIM. Defaults to 1.
        label_scheduler (D3PMScheduler, optional): Diffuses labels alongside.
        sample_labels (bool): Whether the network is given ids drawn from the
            label state, as in training, whatever the label scheduler says.
        guidance (QualityGuidance, optional): Moves each step's boxes.
        renewal (BoxRenewal, optional): Renews proposals between steps.
        callback (Callable, optional): Called with each step.

    Returns:
        Prediction: Of the last step, boxes after guidance.
    """
    # each piece draws for itself: switching one moves nobody else's draws
    guidance_noise = noise_sampler.spawn('guidance')
    renewal_noise = noise_sampler.spawn('renewal')
    label_state = label_prior = label_noise = None
    if label_scheduler is not None:
        label_noise = noise_sampler.spawn('label_state')
        label_prior = label_scheduler.prior(*x.shape[:2], x.device)
        label_state = _observed(label_scheduler, label_prior, label_noise, sample_labels)
    x = x * scheduler.init_noise_sigma
    timesteps = scheduler.timesteps.tolist()
    for index, t in enumerate(scheduler.timesteps):
        is_last = index == len(timesteps) - 1
        boxes = codec.decode(scheduler.scale_model_input(x, t), image_sizes)
        prediction = denoise(boxes, label_state, t)
        if guidance is not None:
            prediction = replace(
                prediction, boxes=guidance(prediction, t, is_last, image_sizes, guidance_noise)
            )
        renewed = None
        if renewal is not None and not is_last:
            renewed = renewal(prediction)
        if callback is not None:
            callback(SamplingStep(index, int(t), boxes, prediction, renewed))
        if is_last:
            return prediction
        x0 = codec.encode(prediction.boxes, image_sizes)
        x = scheduler_step(scheduler, x0, t, x, noise_sampler, eta)
        if label_scheduler is not None:
            label_state = label_scheduler.step(
                prediction.logits, t, label_state, int(timesteps[index + 1])
            ).prev_sample
        if renewed is not None:
            # noise in the units that x has at the next timestep
            unit = scheduler.scale_model_input(torch.ones_like(x), scheduler.timesteps[index + 1])
            fresh = renewal_noise(*x.shape[1:]) / unit
            x = torch.where(renewed[..., None], fresh, x)
            if label_scheduler is not None:
                label_state = torch.where(renewed[..., None], label_prior, label_state)
        if label_scheduler is not None:
            label_state = _observed(label_scheduler, label_state, label_noise, sample_labels)
    raise ValueError('the scheduler has no timesteps; call set_timesteps')


def _observed(
    scheduler: D3PMScheduler, distribution: Tensor, noise: PerImageNoise, sample_labels: bool
) -> Tensor:
    """The distribution itself, or ids drawn from it, (B, N)."""
    if scheduler.config.use_distribution and not sample_labels:
        return distribution
    return scheduler.sample_ids(distribution.detach(), noise.rand(distribution.size(1)))


@TASK_UTILS.register_module()
class DiffusionSampler:
    """Noise to the predictions that become detections.

    Args:
        scheduler (dict): A Diffusers scheduler, see
            :func:`~mmdiffdet.diffusion.box_schedulers.build_box_scheduler`.
        sampling_timesteps (int): Number of steps. Defaults to 1.
        eta (float): Of DDIM; a warning says so where the scheduler has none and
            it is not the default. Defaults to 1.
        renewal (dict, optional): Config of ``BoxRenewal``; None switches it
            off.
        ensemble (dict, optional): Config of ``StepEnsemble``; None uses the
            last step alone.
        guidance (dict, optional): Config of ``QualityGuidance``.
        stages_per_step (Sequence[int], optional): Stages of the head that
            each step runs, counted from the cascade's first; the last number
            holds for the steps that remain. None, the default, runs all.
        repeated_stages (int): So many of a step's last stages run once more,
            with what they said as their input: more refinement without a
            step of the process. Defaults to 0.

    Raises:
        ValueError: If ``sampling_timesteps`` is not in 1..T, ``eta`` or
            ``repeated_stages`` is negative, ``stages_per_step`` is no list of
            positive numbers, or
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
        repeated_stages: int = 0,
    ) -> None:
        self.scheduler = build_box_scheduler(scheduler)
        check_timesteps(sampling_timesteps, self.scheduler.config.num_train_timesteps)
        if not eta >= 0:
            raise ValueError(f'sampler: eta must be >= 0, got {eta}')
        if eta != 1 and not has_eta(self.scheduler):
            warnings.warn(
                f'model.sampler.eta={eta} changes nothing: {type(self.scheduler).__name__} has no '
                'eta. Leave it out, or use DDIMScheduler',
                stacklevel=2,
            )
        if stages_per_step is not None and not (
            isinstance(stages_per_step, (list, tuple))
            and stages_per_step
            and all(type(n) is int and n > 0 for n in stages_per_step)
        ):
            raise ValueError(
                'sampler: stages_per_step must be a list of numbers of stages '
                f'from 1, e.g. [6, 2], got {stages_per_step!r}'
            )
        if type(repeated_stages) is not int or repeated_stages < 0:
            raise ValueError(
                'sampler: repeated_stages must be a number of stages, at least 0, got '
                f'{repeated_stages!r}'
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
        self.repeated_stages = repeated_stages

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
                ``stages_per_step`` or ``repeated_stages`` it is given the number
                of stages and that of those repeated, too.
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
        per_step = self.stages_per_step or [None]
        stages = chain(per_step, repeat(per_step[-1]))

        def staged(boxes: Tensor, label_state: Optional[Tensor], t: Tensor) -> Prediction:
            return denoise(boxes, label_state, t, next(stages), self.repeated_stages)

        last = sample(
            staged if self.stages_per_step or self.repeated_stages else denoise,
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
