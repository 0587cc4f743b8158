"""Diffusers schedulers for the box signal, built from a config.

Any of the registered classes runs with a network that predicts x_0. What a
class does not take is left out of the defaults, so that its name alone can be
changed on the command line.
"""

import inspect
from typing import Any, Optional, Tuple, Union

import diffusers
import torch
from diffusers.schedulers.scheduling_ddim import DDIMSchedulerOutput
from torch import Tensor

from ..registry import BOX_SCHEDULERS
from .flow import FlowMatchEulerDiscreteScheduler
from .noise import PerImageNoise
from .timesteps import next_timestep

for _scheduler in (
    diffusers.DDPMScheduler,
    diffusers.LCMScheduler,
    diffusers.EulerDiscreteScheduler,
    diffusers.DPMSolverMultistepScheduler,
    diffusers.UniPCMultistepScheduler,
):
    BOX_SCHEDULERS.register_module(module=_scheduler)

# A network that predicts x_0, the cosine schedule, and steps that begin at
# T - 1 and end at the data: 'leading', Diffusers' default spacing, would start
# one-step sampling at t = 0. Clipping is the codec's work.
_DEFAULTS = dict(
    num_train_timesteps=1000,
    beta_schedule='squaredcos_cap_v2',
    prediction_type='sample',
    timestep_spacing='trailing',
    clip_sample=False,
    set_alpha_to_one=True,
)


@BOX_SCHEDULERS.register_module()
class DDIMScheduler(diffusers.DDIMScheduler):
    """Diffusers' DDIM with the next timestep (Diffusers' "previous") read from the list.

    The parent derives it from ``T // n``, which drifts, and misses the data
    at the end, where n does not divide T. Only ``prediction_type='sample'``
    is defined here.
    """

    def step(
        self,
        model_output: Tensor,
        timestep: Union[int, Tensor],
        sample: Tensor,
        eta: float = 0.0,
        generator: Optional[Any] = None,
        variance_noise: Optional[Tensor] = None,
        return_dict: bool = True,
    ) -> Union[DDIMSchedulerOutput, Tuple[Tensor, ...]]:
        """One step of DDIM (arXiv 2010.02502, eqs. 12 and 16).

        Args:
            model_output (Tensor): The predicted x_0.
            timestep (int | Tensor): A member of ``self.timesteps``.
            sample (Tensor): x_t, the shape of ``model_output``.
            eta (float): 0 is deterministic, 1 has DDPM's variance.
            generator (Generator | list[Generator], optional): For the noise.
            variance_noise (Tensor, optional): The noise itself, instead.
            return_dict (bool): Whether to return the output class.

        Raises:
            ValueError: If the network does not predict x_0.
        """
        if self.config.prediction_type != 'sample':
            raise ValueError(
                "DDIMScheduler: prediction_type must be 'sample',"
                f' got {self.config.prediction_type!r}'
            )
        t = int(timestep)
        t_next = next_timestep(self, t)
        # scalars of double precision: 1 - abar_next - sigma^2 cancels
        abar = self.alphas_cumprod[t].double()
        abar_next = (
            self.alphas_cumprod[t_next] if t_next >= 0 else self.final_alpha_cumprod
        ).double()
        noise = (sample - abar.sqrt() * model_output) / (1 - abar).sqrt()
        sigma = eta * ((1 - abar / abar_next) * (1 - abar_next) / (1 - abar)).sqrt()
        prev = (
            abar_next.sqrt() * model_output + (1 - abar_next - sigma**2).clamp(min=0).sqrt() * noise
        )
        if eta > 0:
            if variance_noise is None:
                variance_noise = diffusers.utils.torch_utils.randn_tensor(
                    sample.shape, generator, sample.device, sample.dtype
                )
            prev = prev + sigma * variance_noise
        if not return_dict:
            return (prev, model_output)
        return DDIMSchedulerOutput(prev_sample=prev, pred_original_sample=model_output)


def build_box_scheduler(cfg: dict) -> diffusers.SchedulerMixin:
    """Build a registered Diffusers scheduler for a network that predicts x_0.

    Args:
        cfg (dict): ``type`` and any arguments of that class; the rest is the
            reference's schedule where the class takes it.

    Raises:
        ValueError: If ``type`` is not registered (the message lists those
            that are) or the class does not take one of the arguments.
    """
    cfg = dict(cfg)
    name = cfg.pop('type', None)
    cls = BOX_SCHEDULERS.get(name) if isinstance(name, str) else name
    if cls is None:
        BOX_SCHEDULERS.import_from_location()
        raise ValueError(
            f'unknown box scheduler {name!r}; registered are '
            f'{sorted(BOX_SCHEDULERS.module_dict)}. Set '
            'model.sampler.scheduler.type to one of them, or register yours '
            'in mmdiffdet.registry.BOX_SCHEDULERS'
        )
    accepted = set(inspect.signature(cls.__init__).parameters) - {'self'}
    unknown = sorted(set(cfg) - accepted)
    if unknown:
        raise ValueError(f'{name} does not take {unknown}; it takes {sorted(accepted)}')
    args = {k: v for k, v in _DEFAULTS.items() if k in accepted}
    if 'original_inference_steps' in accepted:  # LCM: any t may be visited
        args['original_inference_steps'] = cfg.get(
            'num_train_timesteps', args['num_train_timesteps']
        )
    return cls(**{**args, **cfg})


def has_history(scheduler: diffusers.SchedulerMixin) -> bool:
    """Whether a step uses what earlier steps left.

    UniPC's corrector does at every order.
    """
    return scheduler.config.get('solver_order', 1) > 1 or hasattr(scheduler, 'last_sample')


def has_eta(scheduler: diffusers.SchedulerMixin) -> bool:
    """Whether a step takes DDIM's ``eta``."""
    return 'eta' in inspect.signature(scheduler.step).parameters


def scheduler_step(
    scheduler: diffusers.SchedulerMixin,
    x0: Tensor,
    t: Tensor,
    x: Tensor,
    noise: PerImageNoise,
    eta: float,
) -> Tensor:
    """x at the next timestep, with whatever of eta and noise the class takes.

    Args:
        scheduler (SchedulerMixin): With timesteps set.
        x0 (Tensor): (B, N, 4), the predicted signal.
        t (Tensor): The member of ``scheduler.timesteps`` that x is at.
        x (Tensor): (B, N, 4), the current signal.
        noise (PerImageNoise): Its generators are handed on.
        eta (float): For DDIM, which takes it and ``variance_noise``; others
            ignore it.
    """
    accepted = inspect.signature(scheduler.step).parameters
    kwargs = {}
    draws = scheduler.config.get('stochastic_sampling', False)
    if 'eta' in accepted:
        kwargs['eta'], draws = eta, eta > 0
    if draws and 'variance_noise' in accepted:
        # drawn here, as Diffusers waits for the copy to the device
        kwargs['variance_noise'] = noise(*x.shape[1:])
    elif 'generator' in accepted:
        kwargs['generator'] = noise.generators
    return scheduler.step(x0, t, x, return_dict=False, **kwargs)[0].to(x.dtype)


def training_scheduler(scheduler: diffusers.SchedulerMixin) -> diffusers.SchedulerMixin:
    """The forward process that belongs to a sampling scheduler.

    Diffusion trains on x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) e, which is
    ``DDPMScheduler.add_noise``; other classes of diffusion add noise in other
    units. Flow matching has a forward process of its own.

    Raises:
        ValueError: If it is neither, as a class without ``beta_schedule``:
            which forward process belongs to it is not known.
    """
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        return scheduler
    if 'beta_schedule' not in scheduler.config:
        raise ValueError(
            f'{type(scheduler).__name__} has no beta_schedule, so it is no scheduler of diffusion, '
            'and its forward process is not known; flow matching is '
            'FlowMatchEulerDiscreteScheduler or a subclass of it'
        )
    keys = ('num_train_timesteps', 'beta_start', 'beta_end', 'beta_schedule', 'trained_betas')
    shared = {k: scheduler.config[k] for k in keys if k in scheduler.config}
    return diffusers.DDPMScheduler(**shared, prediction_type='sample')


def same_process(a: diffusers.SchedulerMixin, b: diffusers.SchedulerMixin) -> bool:
    """Whether a timestep means the same noise to both schedulers.

    A network trained for one of them can then be sampled with the other, and
    two networks can be asked about the same noisy boxes.
    """
    a, b = training_scheduler(a), training_scheduler(b)
    if type(a) is not type(b):
        return False
    if isinstance(a, FlowMatchEulerDiscreteScheduler):  # a shift only chooses timesteps
        return a.config.num_train_timesteps == b.config.num_train_timesteps
    return torch.equal(a.alphas_cumprod, b.alphas_cumprod)
