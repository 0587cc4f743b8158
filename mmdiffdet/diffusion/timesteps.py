"""Which timesteps are visited, in sampling and in training."""

from typing import TYPE_CHECKING, Any

import diffusers
import torch
from torch import Tensor

from ..device import on_device

if TYPE_CHECKING:
    from .sampling import DiffusionSampler

TRAINING_TIMESTEPS = ('all', 'sampling', 'logit_normal', 'shifted')


def next_timestep(scheduler: diffusers.SchedulerMixin, t: int) -> int:
    """The timestep after ``t`` in the scheduler's list, -1 after the last.

    Raises:
        ValueError: If ``t`` is not in the list.
    """
    steps = scheduler.timesteps
    index = (steps == t).nonzero()
    if len(index) == 0:
        raise ValueError(f'timestep {t} is not one of the {len(steps)} that set_timesteps chose')
    last = index[-1].item() + 1 == len(steps)
    return -1 if last else int(steps[index[-1].item() + 1])


def check_timesteps(steps: int, num_train_timesteps: int) -> None:
    """Raise ValueError unless 1 <= steps <= num_train_timesteps."""
    if not isinstance(steps, int) or not 1 <= steps <= num_train_timesteps:
        raise ValueError(
            f'sampling_timesteps must be a whole number from 1 to '
            f'{num_train_timesteps} (num_train_timesteps), got {steps!r}; set '
            'model.sampler.sampling_timesteps'
        )


def check_shift(which: str, scheduler: diffusers.SchedulerMixin) -> None:
    """Raise ValueError if ``shifted`` timesteps would be drawn as ``all`` are."""
    if which == 'shifted' and scheduler.config.get('shift', 1) == 1:
        raise ValueError(
            "model.train_cfg.timesteps='shifted' needs a scheduler with a shift other than 1, such "
            'as FlowMatchEulerDiscreteScheduler with model.sampler.scheduler.shift=3; this '
            f"{type(scheduler).__name__} moves no timestep, which is timesteps='all'"
        )


def shifted(sigma: Any, shift: float) -> Any:
    """s sigma / (1 + (s - 1) sigma) of an array or tensor in [0, 1].

    (Stable Diffusion 3, arXiv 2403.03206, eq. 23)
    """
    return shift * sigma / (1 + (shift - 1) * sigma)


def draw_timesteps(
    which: str, sampler: 'DiffusionSampler', batch: int, device: torch.device
) -> Tensor:
    """One timestep an image, for training.

    Args:
        which (str): ``all`` draws from 0..T-1 alike; ``sampling`` from those
            that the sampler visits; ``logit_normal`` takes the sigmoid of a
            standard normal number as the share of T, which prefers the middle
            (Stable Diffusion 3, arXiv 2403.03206, sec. 3.1); ``shifted`` moves
            a uniform share as the scheduler's ``shift`` moves its steps.
        sampler (DiffusionSampler): With its scheduler.
        batch (int): B.
        device (torch.device): Where they are drawn.

    Returns:
        Tensor: (B,) long, in 0..T-1.
    """
    total = sampler.scheduler.config.num_train_timesteps
    if which == 'all':
        return torch.randint(total, (batch,), device=device)
    if which == 'sampling':
        visited = on_device(sampler.timesteps.round(), device, torch.long)
        return visited[torch.randint(len(visited), (batch,), device=device)]
    if which == 'logit_normal':
        share = torch.randn(batch, device=device).sigmoid()
    else:
        share = shifted(torch.rand(batch, device=device), sampler.scheduler.config.shift)
    return (share * total).long().clamp(max=total - 1)
