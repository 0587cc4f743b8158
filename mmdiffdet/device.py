"""Numbers of the host on the device."""

from typing import Any

import torch
from torch import Tensor


def on_device(
    values: Any, device: torch.device | str, dtype: torch.dtype = torch.float32
) -> Tensor:
    """A tensor of numbers that the host knows, without waiting for the device.

    ``torch.tensor(values, device='cuda')`` and ``new_tensor`` have the host
    wait until the device has done all its work.

    Args:
        values (Any): A number, nested sequences of numbers, or a CPU tensor.
        device (torch.device | str): Where.
        dtype (torch.dtype): Of the result.
    """
    return torch.as_tensor(values, dtype=dtype).to(device, non_blocking=True)
