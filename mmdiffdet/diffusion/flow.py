"""Flow matching: straight paths from noise to boxes.

In this notation sigma is the share of noise: x_sigma = (1 - sigma) x_0 + sigma e,
with boxes x_0 at sigma = 0 and noise e at sigma = 1, as in Diffusers. FlowDet
(arXiv 2512.16771) and flow matching (arXiv 2210.02747) count the other way round,
t = 1 - sigma.
"""

from typing import Any, Optional, Tuple, Union

import diffusers
import numpy as np
import torch
from diffusers.configuration_utils import register_to_config
from diffusers.schedulers.scheduling_flow_match_euler_discrete import (
    FlowMatchEulerDiscreteSchedulerOutput,
)
from diffusers.utils.torch_utils import randn_tensor
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ..registry import BOX_SCHEDULERS
from .timesteps import next_timestep, shifted

NOISE_PAIRINGS = ('random', 'optimal_transport')


@BOX_SCHEDULERS.register_module()
class FlowMatchEulerDiscreteScheduler(diffusers.FlowMatchEulerDiscreteScheduler):
    """Diffusers' Euler steps along the flow, for a network that says x_0.

    The network gives boxes, not velocities; the velocity dx/dsigma = e - x_0
    that belongs to them is (x_sigma - x_0) / sigma. Timesteps are whole numbers
    0..T-1, as every other box scheduler's and the label scheduler's are, and
    sigma = (t + 1) / T: T - 1 is pure noise, and the step after 0 ends at the
    data. n steps begin at sigma = 1, (n - 1) / n, ..., 1 / n.

    Args:
        num_train_timesteps (int): T. Defaults to 1000.
        shift (float): s > 1 spends more of the steps near the noise,
            sigma' = s sigma / (1 + (s - 1) sigma) (Stable Diffusion 3, arXiv
            2403.03206, eq. 23). Defaults to 1.
        stochastic_sampling (bool): Whether each step draws its noise anew in
            place of following the flow. Defaults to False.

    Raises:
        ValueError: If ``shift`` is not positive.
    """

    @register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        shift: float = 1.0,
        stochastic_sampling: bool = False,
    ) -> None:
        if not shift > 0:
            raise ValueError(
                f'FlowMatchEulerDiscreteScheduler: shift must be positive, got {shift}'
            )
        super().__init__(
            num_train_timesteps=num_train_timesteps,
            shift=shift,
            stochastic_sampling=stochastic_sampling,
        )
        self.init_noise_sigma = 1.0

    def set_timesteps(
        self, num_inference_steps: int, device: Optional[Union[str, torch.device]] = None
    ) -> None:
        """Choose the timesteps, noisiest first.

        Args:
            num_inference_steps (int): n.
            device (str | torch.device, optional): Where they are kept.

        Raises:
            ValueError: If two of them would coincide, which a shift makes
                happen before n reaches T.
        """
        total = self.config.num_train_timesteps
        even = np.linspace(1, 1 / num_inference_steps, num_inference_steps)
        steps = np.rint(shifted(even, self.shift) * total).astype(np.int64)
        if len(np.unique(steps)) < num_inference_steps or steps[-1] < 1:
            raise ValueError(
                f'FlowMatchEulerDiscreteScheduler: {num_inference_steps} steps with shift '
                f'{self.shift} coincide among {total}; take fewer steps or a shift nearer to 1'
            )
        self.num_inference_steps = num_inference_steps
        self.timesteps = torch.from_numpy(steps - 1).to(device)
        self.sigmas = torch.cat([self._sigma(self.timesteps), torch.zeros(1, device=device)])
        self._step_index = self._begin_index = None

    def step(
        self,
        model_output: Tensor,
        timestep: Union[int, Tensor],
        sample: Tensor,
        generator: Optional[Any] = None,
        variance_noise: Optional[Tensor] = None,
        return_dict: bool = True,
    ) -> Union[FlowMatchEulerDiscreteSchedulerOutput, Tuple[Tensor, ...]]:
        """One Euler step, x + (sigma' - sigma) (x - x_0) / sigma.

        Args:
            model_output (Tensor): The predicted x_0.
            timestep (int | Tensor): A member of ``self.timesteps``.
            sample (Tensor): x_sigma, the shape of ``model_output``.
            generator (Generator | list[Generator], optional): For the noise
                of ``stochastic_sampling``.
            variance_noise (Tensor, optional): The noise itself, instead.
            return_dict (bool): Whether to return the output class.
        """
        t = int(timestep)
        total = self.config.num_train_timesteps
        sigma, sigma_next = (t + 1) / total, (next_timestep(self, t) + 1) / total
        if self.config.stochastic_sampling:
            if variance_noise is None:
                variance_noise = randn_tensor(sample.shape, generator, sample.device, sample.dtype)
            prev = (1 - sigma_next) * model_output + sigma_next * variance_noise
        else:
            prev = model_output + sigma_next / sigma * (sample - model_output)
        if not return_dict:
            return (prev,)
        return FlowMatchEulerDiscreteSchedulerOutput(prev_sample=prev)

    def scale_model_input(self, sample: Tensor, timestep: Optional[Any] = None) -> Tensor:
        """The sample itself; other schedulers scale it."""
        return sample

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_sigma = (1 - sigma) x_0 + sigma e, the forward process.

        Args:
            original_samples (Tensor): x_0, (B, ...).
            noise (Tensor): e, of the same shape.
            timesteps (Tensor): (B,) long, in 0..T-1.
        """
        sigma = self._sigma(timesteps).to(original_samples)
        sigma = sigma.view(-1, *[1] * (original_samples.dim() - 1))
        return (1 - sigma) * original_samples + sigma * noise

    def _sigma(self, timesteps: Tensor) -> Tensor:
        return (timesteps + 1).float() / self.config.num_train_timesteps


def pair_noise(signal: Tensor, noise: Tensor) -> Tensor:
    """Give each box the noise that makes the paths of an image shortest.

    Optimal transport within the proposals of an image: the permutation of its
    noise with the least sum of squared distances (minibatch optimal transport,
    arXiv 2302.00482, sec. 3.2, with the proposals as the batch). It is found on
    the CPU, for which a GPU waits.

    Args:
        signal (Tensor): (B, N, 4), clean.
        noise (Tensor): (B, N, 4).

    Returns:
        Tensor: (B, N, 4), ``noise`` in another order within each image.
    """
    cost = torch.cdist(signal, noise).square().cpu().numpy()
    order = np.stack([linear_sum_assignment(c)[1] for c in cost])
    index = torch.from_numpy(order).to(noise.device)
    return noise.gather(1, index[..., None].expand_as(noise))
