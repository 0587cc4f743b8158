"""Reduced precision in testing, and whether this machine is made for it."""

import logging
import platform
from contextlib import contextmanager
from functools import cache
from typing import Iterator

import torch
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.runner import autocast
from torch import nn

from ..fast import accelerated

PRECISIONS = dict(fp32=None, bf16=torch.bfloat16, fp16=torch.float16)


def check_precision(name: str, what: str) -> None:
    """Raise ValueError if a precision is not one of ``PRECISIONS``.

    Args:
        name (str): The precision.
        what (str): The option that names it.
    """
    if name not in PRECISIONS:
        raise ValueError(f'{what}: unknown {name!r}; choose from {list(PRECISIONS)}')


def has_bf16() -> bool:
    """Whether bfloat16 is faster than float32 on this machine."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    probe = getattr(torch.cpu, '_is_avx512_bf16_supported', None)
    return bool(probe and probe())


def autocast_precision(device_type: str) -> str:
    """``fp32``, or which of ``PRECISIONS`` autocast computes in at this moment."""
    if not torch.is_autocast_enabled(device_type):
        return 'fp32'
    dtype = torch.get_autocast_dtype(device_type)
    return next((name for name, known in PRECISIONS.items() if known is dtype), 'fp32')


@cache
def warn_if_emulated() -> None:
    """Tell, once, that a CPU computes bfloat16 without instructions for it."""
    # the instructions of other processors cannot be asked for
    x86 = platform.machine().lower() in ('x86_64', 'amd64')
    if x86 and not torch.cuda.is_available() and not has_bf16():
        print_log(
            'this CPU has no instructions for bfloat16 (avx512_bf16): it is many times slower '
            'than float32 here. Leave out --amp, and precision=bf16',
            'current',
            logging.WARNING,
        )


@contextmanager
def in_precision(model: nn.Module, precision: str) -> Iterator[None]:
    """Compute in a precision, by the faster kernels of :mod:`mmdiffdet.fast`.

    Args:
        model (nn.Module): Whose weights are meant.
        precision (str): One of ``PRECISIONS``; reduced ones are autocast's.

    Raises:
        ValueError: If float16 is asked of a CPU.
    """
    dtype = PRECISIONS[precision]
    if dtype is torch.float16 and get_device() == 'cpu':
        raise ValueError('precision fp16 needs a GPU; on CPUs use bf16 or fp32')
    if dtype is not None:
        warn_if_emulated()
    with autocast(enabled=dtype is not None, dtype=dtype), accelerated(model, dtype):
        yield
