"""Copying numbers from the host to the device."""

from typing import Any

import torch
from torch import Tensor


def on_device(
    values: Any, device: torch.device | str, dtype: torch.dtype = torch.float32
) -> Tensor:
    """A tensor on a device of a number, nested sequences of numbers, or a CPU tensor.

    ``torch.tensor(values, device='cuda')`` and ``new_tensor`` would have the host
    wait until the device has done all its work.
    """
    return torch.as_tensor(values, dtype=dtype).to(device, non_blocking=True)
