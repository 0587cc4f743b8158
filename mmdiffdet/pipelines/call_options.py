"""The sampler and the noise of a call of the pipeline."""

import copy
import logging
from typing import List, Optional, Sequence, Union

import torch
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from mmengine.logging import print_log

from ..diffusion.box_schedulers import has_history, same_process
from ..diffusion.noise import PerImageNoise
from ..diffusion.sampling import DiffusionSampler
from ..diffusion.timesteps import check_timesteps
from .components import own_scheduler

Generators = Union[torch.Generator, Sequence[torch.Generator]]


def sampler_of_call(
    sampler: DiffusionSampler,
    scheduler: SchedulerMixin,
    steps: Optional[int] = None,
    eta: Optional[float] = None,
    renewal: Optional[bool] = None,
) -> DiffusionSampler:
    """A config's sampler with another scheduler, and what a call changes.

    Args:
        sampler (DiffusionSampler): The detector's; it is copied.
        scheduler (SchedulerMixin): Takes the place of the sampler's own.
        steps (int, optional): Sampling steps.
        eta (float, optional): DDIM's eta.
        renewal (bool, optional): Whether boxes are renewed. By default as in
            the config, but not, with a warning, for a multistep solver.

    Raises:
        ValueError: If an argument is out of its range, or renewal is asked
            for and cannot be.
    """
    trained = sampler.scheduler
    sampler = copy.copy(sampler)
    sampler.scheduler = own_scheduler(scheduler)
    if not same_process(sampler.scheduler, trained):
        raise ValueError(
            f'{type(sampler.scheduler).__name__} has another forward process or schedule than the '
            'model was trained with; make it by from_config(pipe.scheduler.config). Diffusion and '
            'flow matching cannot take the place of each other'
        )
    if steps is not None:
        sampler.sampling_timesteps = steps
    check_timesteps(sampler.sampling_timesteps, sampler.scheduler.config.num_train_timesteps)
    if eta is not None:
        sampler.eta = eta
    if not sampler.eta >= 0:
        raise ValueError(f'eta must be >= 0, got {eta}')
    name = type(sampler.scheduler).__name__
    if renewal is False:
        sampler.renewal = None
    elif renewal and sampler.renewal is None:
        raise ValueError('renewal: the config of the model has none (model.sampler.renewal)')
    if sampler.renewal is not None and has_history(sampler.scheduler):
        if renewal:
            raise ValueError(
                f'renewal: {name} is a multistep solver and cannot be combined with box renewal'
            )
        told = f'{name} is a multistep solver: boxes are not renewed (renewal=False)'
        print_log(told, 'current', logging.WARNING)
        sampler.renewal = None
    return sampler


def noises_of_call(
    count: int,
    device: torch.device,
    eval_seed: int,
    image_ids: Optional[Sequence[object]] = None,
    generator: Optional[Generators] = None,
) -> List[PerImageNoise]:
    """The source of noise of each of ``count`` images.

    It is seeded with ``eval_seed`` and the image's id (0 by default). ``generator``
    takes their place: one an image, or one that a seed for each image is drawn from.
    ValueError if there are other than ``count`` ids or generators.
    """
    if isinstance(generator, torch.Generator):
        seeds = torch.randint(2**62, (count,), generator=generator, device=generator.device)
        generator = [torch.Generator().manual_seed(seed) for seed in seeds.tolist()]
    name = 'image_ids' if generator is None else 'generators'
    given = list(
        ([0] * count if image_ids is None else image_ids) if generator is None else generator
    )
    if len(given) != count:
        raise ValueError(f'{len(given)} {name} for {count} images; give one each')
    if generator is None:
        return [PerImageNoise.from_seed(eval_seed, [i], device) for i in given]
    return [PerImageNoise([g], device) for g in given]
