"""Discrete diffusion of labels (D3PM, arXiv 2107.03006) for proposals."""

from dataclasses import dataclass
from typing import Optional, Tuple, Union

import diffusers
import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.utils import BaseOutput
from torch import Tensor

from ..device import on_device
from ..registry import LABEL_SCHEDULERS

KERNELS = ('mask', 'uniform')
KEEP_SCHEDULES = ('sqrt_alphas_cumprod', 'alphas_cumprod', 'linear', 'constant')
UPDATES = ('heuristic', 'posterior')


@dataclass
class D3PMSchedulerOutput(BaseOutput):
    """Output of :meth:`D3PMScheduler.step`.

    Args:
        prev_sample (Tensor): (B, N, K + 1) distribution at the next timestep.
        pred_original_sample (Tensor): (B, N, K + 1) predicted p(c_0).
    """

    prev_sample: Tensor
    pred_original_sample: Tensor


def _per_image(value: Tensor) -> Tensor:
    """() or (B,) to what multiplies (B, N, K + 1)."""
    return value[:, None, None] if value.dim() else value


def _cumulative(distribution: Tensor, exact: Optional[bool] = None) -> Tensor:
    """``cumsum(-1)``, of which CUDA has no deterministic form for floats."""
    if exact is None:
        exact = distribution.is_cuda and torch.are_deterministic_algorithms_enabled()
    if not exact:
        return distribution.cumsum(-1)
    size = distribution.size(-1)
    ones = torch.ones(size, size, device=distribution.device, dtype=torch.float64).triu()
    return (distribution.double() @ ones).to(distribution.dtype)


def _choose(name: str, value: str, valid: Tuple[str, ...]) -> None:
    if value not in valid:
        raise ValueError(f'D3PMScheduler: unknown {name} {value!r}; choose from {list(valid)}')


@LABEL_SCHEDULERS.register_module()
class D3PMScheduler(diffusers.SchedulerMixin, ConfigMixin):
    """Diffusion of a label state with K classes and one unknown, state K.

    keep(t), the probability that nothing happened to a label up to t, is the
    schedule's value to the power ``keep_power``, floored at ``keep_min``.
    Kernel ``mask`` (absorbing): a label is kept with keep(t), else unknown;
    the unknown stays. Kernel ``uniform``: keep(t) of the one-hot state plus
    (1 - keep(t)) / (K + 1) everywhere.

    Args:
        num_classes (int): K.
        kernel (str): ``mask`` or ``uniform``.
        keep_schedule (str): ``sqrt_alphas_cumprod``, ``alphas_cumprod``,
            ``linear`` (1 - t / (T - 1)) or ``constant``.
        keep_power (float): Exponent of the schedule.
        keep_min (float): Floor of keep(t).
        keep_const (float): Value of the ``constant`` schedule.
        update (str): ``heuristic`` re-noises p(c_0) to the next timestep, as
            the Detectron2 system does; ``posterior`` is D3PM's
            q(c_{t-1} | c_t, p(c_0)), its eq. 4.
        use_distribution (bool): Whether the state in testing is the
            distribution; otherwise an id is sampled from it.
        num_train_timesteps (int): T.
        beta_schedule (str): Of the box signal, for the two schedules that
            follow it.

    Raises:
        ValueError: If a name is unknown or a number out of its range.
    """

    order = 1

    @register_to_config
    def __init__(
        self,
        num_classes: int,
        kernel: str = 'mask',
        keep_schedule: str = 'sqrt_alphas_cumprod',
        keep_power: float = 1.0,
        keep_min: float = 0.0,
        keep_const: float = 1.0,
        update: str = 'heuristic',
        use_distribution: bool = True,
        num_train_timesteps: int = 1000,
        beta_schedule: str = 'squaredcos_cap_v2',
    ) -> None:
        _choose('kernel', kernel, KERNELS)
        _choose('keep_schedule', keep_schedule, KEEP_SCHEDULES)
        _choose('update', update, UPDATES)
        for name, value in (('keep_min', keep_min), ('keep_const', keep_const)):
            if not 0 <= value <= 1:
                raise ValueError(f'D3PMScheduler: {name} must be in [0, 1], got {value}')
        if keep_power < 0:
            raise ValueError(f'D3PMScheduler: keep_power must be >= 0, got {keep_power}')
        t = torch.arange(num_train_timesteps)
        if keep_schedule == 'linear':
            keep = 1 - t / (num_train_timesteps - 1)
        elif keep_schedule == 'constant':
            keep = torch.full_like(t, keep_const, dtype=torch.float32)
        else:
            keep = diffusers.DDPMScheduler(
                num_train_timesteps, beta_schedule=beta_schedule
            ).alphas_cumprod
            if keep_schedule == 'sqrt_alphas_cumprod':
                keep = keep.sqrt()
        self.keep = (keep.clamp(0, 1) ** keep_power).clamp(min=keep_min)
        self.timesteps = t.flip(0)

    def set_timesteps(
        self, num_inference_steps: int, device: Union[str, torch.device, None] = None
    ) -> None:
        """Trailing timesteps, T - 1 first, like the box schedulers'."""
        total = self.config.num_train_timesteps
        steps = torch.arange(total, 0, -total / num_inference_steps, dtype=torch.float64)
        self.timesteps = (steps.round().long() - 1).to(device)

    def keep_prob(self, t: Tensor) -> Tensor:
        """keep(t) of timesteps, float32 of the same shape; 1 where t is negative."""
        keep = on_device(self.keep, t.device)[t.clamp(min=0)]
        return torch.where(t < 0, torch.ones_like(keep), keep)

    def prior(
        self, batch_size: int, num_proposals: int, device: Union[str, torch.device] = 'cpu'
    ) -> Tensor:
        """(B, N, K + 1) state of pure noise: unknown, or uniform."""
        states = self.config.num_classes + 1
        if self.config.kernel == 'uniform':
            return torch.full((batch_size, num_proposals, states), 1 / states, device=device)
        prior = torch.zeros(batch_size, num_proposals, states, device=device)
        prior[..., -1] = 1
        return prior

    def add_noise(self, original_samples: Tensor, timesteps: Tensor) -> Tensor:
        """The forward distribution q(c_t | c_0).

        Args:
            original_samples (Tensor): (B, N) long ids in 0..K, or a
                (B, N, K + 1) distribution over them.
            timesteps (Tensor): (B,) long.

        Returns:
            Tensor: (B, N, K + 1) float32. :meth:`sample_ids` draws from it.

        Raises:
            ValueError: If an id is not in 0..K.
        """
        return self._forward(self._distribution(original_samples), self.keep_prob(timesteps))

    def step(
        self,
        model_output: Tensor,
        timestep: Union[int, Tensor],
        sample: Tensor,
        prev_timestep: Optional[int] = None,
        return_dict: bool = True,
    ) -> Union[D3PMSchedulerOutput, Tuple[Tensor, Tensor]]:
        """The state's distribution at the next timestep.

        Args:
            model_output (Tensor): (B, N, K) class logits.
            timestep (int | Tensor): t.
            sample (Tensor): c_t, (B, N) ids or (B, N, K + 1) distribution;
                only the posterior reads it.
            prev_timestep (int, optional): The next timestep, -1 for the data;
                read from ``self.timesteps`` if left out.
            return_dict (bool): Whether to return the output class.
        """
        if prev_timestep is None:
            later = self.timesteps[self.timesteps < int(timestep)]
            prev_timestep = int(later[0]) if len(later) else -1
        p0 = F.pad(model_output.float().softmax(-1), (0, 1))
        # of all images, numbers of the host
        keep, keep_next = self.keep_prob(torch.tensor([int(timestep), int(prev_timestep)]))
        if self.config.update == 'posterior':
            if not sample.is_floating_point():
                sample = F.one_hot(sample, p0.size(-1)).float()
            prev = self._posterior(p0, sample, keep, keep_next)
        else:
            prev = self._forward(p0, keep_next)
        if not return_dict:
            return (prev, p0)
        return D3PMSchedulerOutput(prev_sample=prev, pred_original_sample=p0)

    def sample_ids(self, distribution: Tensor, uniform: Tensor) -> Tensor:
        """Draw ids by inverting the cumulative distribution.

        Args:
            distribution (Tensor): (B, N, K + 1).
            uniform (Tensor): (B, N) draws from [0, 1).

        Returns:
            Tensor: (B, N) long ids in 0..K.
        """
        cdf = _cumulative(distribution)
        cdf = cdf / cdf[..., -1:]
        ids = torch.searchsorted(cdf, uniform[..., None], right=True)
        return ids[..., 0].clamp(max=self.config.num_classes)

    def _forward(self, p: Tensor, keep: Tensor) -> Tensor:
        """``p`` (B, N, K + 1) after the kernel with ``keep``, () or (B,)."""
        keep = _per_image(keep)
        return keep * p + (1 - keep) * self._noise(p)

    def _noise(self, like: Tensor) -> Tensor:
        """(1, 1, K + 1), what a state becomes that is not kept."""
        return self.prior(1, 1, like.device)

    def _posterior(self, p0: Tensor, ct: Tensor, keep_t: Tensor, keep_next: Tensor) -> Tensor:
        """q(c_next | c_t, p0), (B, N, K + 1), averaged over ``ct``.

        For a known c_t it is the one-step transition from c_next to c_t
        times q(c_next | p0), normalised. A transition is
        ratio [c_next = c_t] + (1 - ratio) noise(c_t), so that no (K + 1)^2
        matrix is needed.
        """
        ratio = (keep_t / keep_next.clamp(min=1e-12)).clamp(max=1)
        ratio = _per_image(ratio)
        noise = self._noise(p0)
        after = self._forward(p0, keep_next)
        evidence = ratio * after + (1 - ratio) * noise * after.sum(-1, keepdim=True)
        # denominators are made safe first: gradients pass through both sides
        # of torch.where
        possible = evidence > 0
        weight = torch.where(possible, ct / torch.where(possible, evidence, 1.0), 0.0)
        prev = after * (ratio * weight + (1 - ratio) * (noise * weight).sum(-1, keepdim=True))
        total = prev.sum(-1, keepdim=True)
        # an observation that p0 says cannot be: nothing to learn from it
        known = total > 0
        return torch.where(known, prev / torch.where(known, total, 1.0), after)

    def _distribution(self, labels: Tensor) -> Tensor:
        if labels.is_floating_point():
            return labels
        states = self.config.num_classes + 1
        # elsewhere the host would wait for the numbers, and one_hot asserts
        known = labels.device.type == 'cpu' and labels.numel()
        if known and not 0 <= int(labels.min()) <= int(labels.max()) < states:
            raise ValueError(
                f'label out of range: found {int(labels.min())} to '
                f'{int(labels.max())}, D3PMScheduler has num_classes='
                f'{states - 1} and the unknown state {states - 1}'
            )
        return F.one_hot(labels, states).float()

    def __len__(self) -> int:
        return self.config.num_train_timesteps
