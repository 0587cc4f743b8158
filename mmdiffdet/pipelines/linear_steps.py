"""A scheduler's steps as weighted sums, for graphs.

Every step of the box schedulers is linear in the signals that it has seen. Its
weights are found by having the scheduler step through unit vectors, so that a
graph holds numbers and not the scheduler's bookkeeping.
"""

import copy
import inspect
from typing import Any, Dict, List, Optional, Tuple

import torch
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor

from ..diffusion.box_schedulers import has_history


class Timestep(float):
    """A number that is a constant in a graph, and becomes a tensor for the denoiser."""

    def to(self, device: torch.device) -> Tensor:
        """The timestep as a tensor (1,) of type long."""
        return torch.full((1,), int(self), device=device)


class Timesteps(list):
    """Numbers with :meth:`tolist`, as a tensor has."""

    def tolist(self) -> List[float]:
        """A plain list."""
        return list(self)


class LinearSteps:
    """Replaces a scheduler in the reverse process with ``steps`` steps and DDIM's ``eta``.

    ValueError if a step is not linear, or draws noise by itself.
    """

    def __init__(self, scheduler: SchedulerMixin, steps: int, eta: float) -> None:
        name, config = type(scheduler).__name__, scheduler.config
        if config.get('thresholding') or config.get('clip_sample'):
            raise ValueError(f'{name} with thresholding or clip_sample cannot be exported')
        sigma = float(scheduler.init_noise_sigma)
        if sigma > 100:
            raise ValueError(
                f'{name} cannot be exported: it steps from noise that is {sigma:.0f} times as '
                'large as boxes, and what float32 loses there is not the same twice; '
                'DDIMScheduler with eta=0 is the same solver'
            )
        scheduler = copy.deepcopy(scheduler)
        scheduler.set_timesteps(steps)
        times = scheduler.timesteps
        self.config = config
        self.timesteps = Timesteps(Timestep(t) for t in times.tolist())
        self.init_noise_sigma = float(scheduler.init_noise_sigma)
        self._scale: Dict[float, float] = {}
        # of each step, the factors of x, x0 and noise of all steps before
        self._weights: List[Dict[Tuple[str, int], float]] = []
        accepted = inspect.signature(scheduler.step).parameters
        options: Dict[str, Any] = dict(eta=eta) if 'eta' in accepted else {}
        self.is_noisy = eta > 0 and 'variance_noise' in accepted
        if 'generator' in accepted:
            options['generator'] = _NoDraws(name)
        # the vectors that a step may be a sum of
        names = [(kind, k) for k in range(steps) for kind in ('x', 'x0', 'noise')]
        units = dict(zip(names, torch.eye(len(names), dtype=torch.float64)[:, None, None]))
        x = units['x', 0]
        for k, t in enumerate(times):
            if not has_history(scheduler):
                x = units['x', k]
            one = torch.ones(1, 1, 1, dtype=torch.float64)
            self._scale[self.timesteps[k]] = float(scheduler.scale_model_input(one, t))
            if k == steps - 1:
                break
            if self.is_noisy:
                options['variance_noise'] = units['noise', k]
            x = scheduler.step(units['x0', k], t, x, return_dict=False, **options)[0].double()
            self._weights.append(
                {key: float(w) for key, w in zip(names, x.flatten()) if abs(float(w)) > 1e-12}
            )
        self._seen: Dict[Tuple[str, int], Tensor] = {}

    def set_timesteps(self, steps: int) -> None:
        """Begin anew."""
        self._seen = {}

    def scale_model_input(self, x: Tensor, t: float) -> Tensor:
        """x in the units of the box codec."""
        return x * self._scale[t]

    def step(
        self,
        model_output: Tensor,
        timestep: float,
        sample: Tensor,
        generator: Optional[Any] = None,
        return_dict: bool = False,
    ) -> Tuple[Tensor]:
        """The signal at the next timestep, from the predicted x_0 and the sample x_t.

        ``timestep`` is one of ``self.timesteps``; ``generator`` gives noise of a shape.
        """
        k = self.timesteps.index(timestep)
        self._seen['x', k], self._seen['x0', k] = sample, model_output
        if self.is_noisy:
            self._seen['noise', k] = generator(*sample.shape[1:])
        terms = [self._seen[key] * weight for key, weight in self._weights[k].items()]
        return (sum(terms[1:], terms[0]),)


class _NoDraws:
    """Replaces a generator; drawing from it raises ValueError."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getattr__(self, _: str) -> Any:
        raise ValueError(
            f'{self.name} draws noise within its steps and cannot be exported; use DDIMScheduler '
            'with eta=1, which adds as much'
        )
