"""Linear layers by oneDNN, with weights that may be held ready."""

from typing import Any, List, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

Weights = Tuple[Tensor, Tensor]
"""(out, in) weight and (out,) bias of a linear layer."""


def _precisions() -> Tuple[torch.dtype, ...]:
    """In which oneDNN's operators are there and have instructions."""
    ops = torch.ops.mkldnn  # private, so they may go
    if not torch.backends.mkldnn.is_available() or not all(
        hasattr(ops, name)
        for name in ('_linear_pointwise', '_reorder_linear_weight', '_is_mkldnn_bf16_supported')
    ):
        return ()
    if ops._is_mkldnn_bf16_supported():
        return torch.float32, torch.bfloat16
    return (torch.float32,)


PRECISIONS = _precisions()


def _flops(x: torch.Size, weight: torch.Size, *_: Any, **__: Any) -> int:
    """Operations of a product, which PyTorch does not count itself."""
    return 2 * x.numel() * weight[0]


if PRECISIONS:
    register_flop_formula(torch.ops.mkldnn._linear_pointwise)(_flops)


def held_for(weights: Sequence[Weights], dtype: Optional[torch.dtype]) -> Optional[List[Weights]]:
    """Weights on the CPU cast and laid out for :func:`product`.

    Autocast keeps what it has cast of whole, trainable weights only, and lays
    them out anew for each product.

    Args:
        weights (Sequence[tuple[Tensor, Tensor]]): Of some layers.
        dtype (torch.dtype, optional): That of autocast.

    Returns:
        list[tuple[Tensor, Tensor]]: In ``dtype``; None in float32
        (``dtype=None``), on other devices and where the CPU does not compute
        in it.
    """
    if dtype not in PRECISIONS or any(w.device.type != 'cpu' for w, _ in weights):
        return None
    with torch.no_grad():
        return [
            (torch.ops.mkldnn._reorder_linear_weight(w.to(dtype)), b.to(dtype)) for w, b in weights
        ]


def product(x: Tensor, weights: Weights, held: Optional[Weights] = None) -> Tensor:
    """``F.linear(x, *weights)``, faster where no gradient is wanted.

    In testing on CPUs the product is oneDNN's, by the operator that
    ``torch.compile`` makes of a linear layer: it adds the bias within the
    product, where PyTorch first writes it to all rows, and takes held weights.
    Results are the same up to rounding.

    Args:
        x (Tensor): (M, in), on the CPU or with plain weights elsewhere.
        weights (tuple[Tensor, Tensor]): The layer's own.
        held (tuple[Tensor, Tensor], optional): Of :func:`held_for`.

    Returns:
        Tensor: (M, out), contiguous.

    Raises:
        RuntimeError: If shapes or precisions do not fit, as ``F.linear`` does.
    """
    if _is_plain(x, weights[0], held is not None):
        return F.linear(x, *weights)
    weight, bias = held or weights
    return torch.ops.mkldnn._linear_pointwise(x.to(bias.dtype), weight, bias, 'none', [], '')


def _is_plain(x: Tensor, weight: Tensor, is_held: bool) -> bool:
    """Whether ``F.linear`` is wanted, or has to complain."""
    if (
        torch.is_grad_enabled()
        or torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or x.device.type != 'cpu'
        or not torch.backends.mkldnn.enabled
        or x.size(-1) != weight.size(1)
    ):
        return True
    if is_held:  # as autocast would
        return x.dtype not in (torch.float32, torch.bfloat16)
    # of whole weights autocast keeps what it has cast
    return x.dtype not in PRECISIONS or x.dtype != weight.dtype or torch.is_autocast_enabled('cpu')
