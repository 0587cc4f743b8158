"""What a call of the pipeline changes of sampling."""

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
        sampler (DiffusionSampler): Of the detector; it is copied.
        scheduler (SchedulerMixin): In place of its own.
        steps (int, optional): Sampling steps.
        eta (float, optional): Of DDIM.
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
        print_log(
            f'{name} is a multistep solver: boxes are not renewed (renewal=False)',
            'current',
            logging.WARNING,
        )
        sampler.renewal = None
    return sampler


def noises_of_call(
    count: int,
    device: torch.device,
    eval_seed: int,
    image_ids: Optional[Sequence[object]] = None,
    generator: Optional[Generators] = None,
) -> List[PerImageNoise]:
    """One source of noise an image.

    Args:
        count (int): Of images.
        device (torch.device): Where the noise is put.
        eval_seed (int): Seeds it, together with the image ids.
        image_ids (Sequence, optional): By default 0 for all.
        generator (Generator | Sequence[Generator], optional): In their place;
            one an image, or one that a seed for each image is drawn from.

    Raises:
        ValueError: If there are other than ``count`` of something.
    """
    if generator is None:
        ids = [0] * count if image_ids is None else list(image_ids)
        _check_count('image_ids', ids, count)
        return [PerImageNoise.from_seed(eval_seed, [i], device) for i in ids]
    if isinstance(generator, torch.Generator):
        seeds = torch.randint(
            2**62, (count,), generator=generator, device=generator.device
        ).tolist()
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    else:
        generators = list(generator)
        _check_count('generators', generators, count)
    return [PerImageNoise([g], device) for g in generators]


def _check_count(name: str, values: Sequence[object], count: int) -> None:
    if len(values) != count:
        raise ValueError(f'{len(values)} {name} for {count} images; give one each')
