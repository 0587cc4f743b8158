"""The reverse process: noise to boxes."""

from dataclasses import dataclass, replace
from typing import Callable, Optional

import diffusers
import torch
from torch import Tensor

from .box_codec import BoxCodec
from .box_schedulers import scheduler_step
from .guidance import QualityGuidance
from .label_scheduler import D3PMScheduler
from .noise import PerImageNoise
from .prediction import Prediction
from .renewal import BoxRenewal

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
