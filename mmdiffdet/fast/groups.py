"""A few rows at a time, so that what is made of them stays in the cache."""

from itertools import repeat
from typing import Callable, Optional

import torch
from torch import Tensor

# Measured on CPUs: smaller groups make smaller products, larger ones no
# longer fit, and come from buffers that the allocator does not keep.
GROUP_BYTES = 2**24


def in_groups(function: Callable[..., Tensor], row_bytes: int, *inputs: Optional[Tensor]) -> Tensor:
    """``function(*inputs)``, a group of rows after the other.

    Args:
        function (Callable): Treats rows apart from each other.
        row_bytes (int): What it makes of a row.
        inputs (Tensor | None): All with the same number of rows.
    """
    size = max(1, GROUP_BYTES // row_bytes)
    groups = [repeat(None) if x is None else x.split(size) for x in inputs]
    return torch.cat([function(*group) for group in zip(*groups)])
