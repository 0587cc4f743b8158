"""A weight that depends on the timestep."""

import torch
from torch import Tensor

_TYPES = ('constant', 'linear', 'threshold')


class TimeSchedule:
    """Weight of a module at timestep t.

    Args:
        type (str): ``constant`` (1), ``linear`` ((1 - t / (T - 1)) ** power)
            or ``threshold`` (1 where t <= threshold, else 0).
        power (float): For ``linear``. Defaults to 1.
        threshold (int): For ``threshold``. Defaults to 0.
        num_train_timesteps (int): T. Defaults to 1000.

    Raises:
        ValueError: If ``type`` is unknown or ``power`` is negative.
    """

    def __init__(
        self,
        type: str = 'constant',
        power: float = 1.0,
        threshold: int = 0,
        num_train_timesteps: int = 1000,
    ) -> None:
        if type not in _TYPES:
            raise ValueError(f'unknown time schedule {type!r}; choose from {list(_TYPES)}')
        if power < 0:
            raise ValueError(f'time schedule: power must be >= 0, got {power}')
        self.type = type
        self.power = power
        self.threshold = threshold
        self.num_train_timesteps = num_train_timesteps

    def __call__(self, t: Tensor) -> Tensor:
        """(B,) timesteps to (B,) float32 weights."""
        if self.type == 'constant':
            return torch.ones_like(t, dtype=torch.float32)
        if self.type == 'linear':
            left = 1 - t.float() / (self.num_train_timesteps - 1)
            return left.clamp(0, 1) ** self.power
        return (t <= self.threshold).float()
