"""Linear layers that hold their weights ready for testing."""
from contextlib import contextmanager
from typing import Any, Iterator, List, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import register_flop_formula

_HAS_ONEDNN = (
    torch.backends.mkldnn.is_available()
    and hasattr(torch.ops.mkldnn, '_linear_pointwise')
    and hasattr(torch.ops.mkldnn, '_reorder_linear_weight'))


def _takes(tensor: Tensor) -> bool:
    """Whether oneDNN's operator is for such tensors."""
    if tensor.device.type != 'cpu' or not _HAS_ONEDNN:
        return False
    return tensor.dtype == torch.float32 or (
        tensor.dtype == torch.bfloat16
        and torch.ops.mkldnn._is_mkldnn_bf16_supported())


class PackedLinear(nn.Linear):
    """``nn.Linear`` with a faster way where no gradient is wanted.

    Weights, names and results are those of ``nn.Linear``. In testing on CPUs
    the product is oneDNN's, by the operator that ``torch.compile`` makes of a
    linear layer: it adds the bias within the product, where PyTorch first
    writes it to all rows, and takes weights that :func:`packed` has cast and
    laid out once. Only matrices, (M, in_features), are taken.

    Args:
        in_features (int): Columns of the input.
        out_features (int): Columns of the output.
        num_parts (int): Into which the outputs can be split, see
            :meth:`part`.
    """

    def __init__(self,
                 in_features: int,
                 out_features: int,
                 num_parts: int = 1) -> None:
        super().__init__(in_features, out_features)
        self.num_parts = num_parts
        # weight and bias of each part, while :func:`packed` lasts
        self.held: Optional[List[Tuple[Tensor, Tensor]]] = None

    def forward(self, x: Tensor) -> Tensor:
        """(M, in_features) to (M, out_features)."""
        return self.part(x, 0) if self.num_parts == 1 else super().forward(x)

    def part(self, x: Tensor, index: int) -> Tensor:
        """(M, in_features) to (M, out_features / num_parts), contiguous.

        Args:
            x (Tensor): The input.
            index (int): Which columns of the output.
        """
        held = None if torch.is_grad_enabled() else self.held
        weight, bias = (held or self.parts())[index]
        # of whole weights autocast keeps what it has cast
        casts = held is None and torch.is_autocast_enabled(x.device.type)
        if (torch.is_grad_enabled() or casts or torch.compiler.is_compiling()
                or not _takes(bias)):
            return F.linear(x, weight, bias)
        return torch.ops.mkldnn._linear_pointwise(
            x.to(bias.dtype), weight, bias, 'none', [], '')

    def parts(self) -> List[Tuple[Tensor, Tensor]]:
        """Weight and bias of each part, views."""
        if self.num_parts == 1:  # the parameters themselves
            return [(self.weight, self.bias)]
        size = self.out_features // self.num_parts
        return list(zip(self.weight.split(size), self.bias.split(size)))


if _HAS_ONEDNN:

    @register_flop_formula(torch.ops.mkldnn._linear_pointwise)
    def _flops(x: torch.Size, weight: torch.Size, *_: Any, **__: Any) -> int:
        return 2 * x.numel() * weight[0]


@contextmanager
def packed(model: nn.Module, dtype: Optional[torch.dtype]) -> Iterator[None]:
    """Hold the weights of all :class:`PackedLinear` in another precision.

    Autocast keeps what it has cast of whole, trainable weights only, and lays
    them out anew for each product. The weights themselves are not touched.

    Args:
        model (nn.Module): Whose layers are meant. Where one of its modules is
            compiled the weights are cast and nothing more.
        dtype (torch.dtype, optional): That of autocast; None holds nothing.
    """
    layers = [m for m in model.modules() if isinstance(m, PackedLinear)
              # FSDP's are not whole
              and m.weight.shape == (m.out_features, m.in_features)]
    compiled = any(
        m._compiled_call_impl is not None for m in model.modules())
    try:
        for layer in layers if dtype is not None else ():
            held = [(w.detach().to(dtype), b.detach().to(dtype))
                    for w, b in layer.parts()]
            if not compiled and _takes(held[0][1]):
                held = [(torch.ops.mkldnn._reorder_linear_weight(w), b)
                        for w, b in held]
            layer.held = held
        yield
    finally:
        for layer in layers:
            layer.held = None
