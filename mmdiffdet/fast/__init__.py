"""What is there for speed alone; without it the program is slower and equal.

Nothing here is a formula of its own: each class computes what its parent in
:mod:`mmdiffdet.models` does, by other kernels. Everything is put on from
outside by :func:`accelerated`.
"""

from contextlib import contextmanager
from typing import Dict, Iterator, List, Optional, Type

import torch
from torch import nn

from ..models import (
    DiffusionDet,
    DiffusionDetStage,
    DynamicConv,
    GatherRoIExtractor,
    SelfAttention,
)
from .detector import FastDiffusionDet
from .dynamic_conv import FastDynamicConv
from .roi_extractor import FastRoIExtractor
from .self_attention import FastSelfAttention
from .stage import FastStage

__all__ = ['accelerated', 'disabled']

_FAST: Dict[Type[nn.Module], Type[nn.Module]] = {
    DiffusionDet: FastDiffusionDet,
    DiffusionDetStage: FastStage,
    DynamicConv: FastDynamicConv,
    GatherRoIExtractor: FastRoIExtractor,
    SelfAttention: FastSelfAttention,
}
_enabled = True


@contextmanager
def accelerated(model: nn.Module, dtype: Optional[torch.dtype] = None) -> Iterator[None]:
    """Compute faster, with results that are the same up to rounding.

    The modules of the model take the class that does their work faster and
    have their own again afterwards; weights and their names are not touched.
    A module whose class is not known here, a subclass of ours too, stays as
    it is. Where no gradient is wanted, weights are cast and laid out once:
    changes of theirs are not seen while this lasts.

    Args:
        model (nn.Module): Any, also in a wrapper for several processes.
        dtype (torch.dtype, optional): That autocast computes in; None for
            float32 without autocast.
    """
    modules: List[nn.Module] = []
    if _enabled:
        modules = [module for module in model.modules() if type(module) in _FAST]
    for module in modules:
        module.__class__ = _FAST[type(module)]
    convs = [module for module in model.modules() if isinstance(module, FastDynamicConv)]
    held = [conv.held for conv in convs]
    try:
        if not torch.is_grad_enabled():
            for conv in convs:
                conv.hold(dtype)
        yield
    finally:
        for conv, before in zip(convs, held):
            conv.held = before
        for module in modules:
            module.__dict__.pop('held', None)
            module.__class__ = type(module).__base__


@contextmanager
def disabled() -> Iterator[None]:
    """Have :func:`accelerated` do nothing, to see or time the plain model."""
    global _enabled
    before, _enabled = _enabled, False
    try:
        yield
    finally:
        _enabled = before
