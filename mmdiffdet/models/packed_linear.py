"""Linear layers that hold their weights ready for testing."""

from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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


class PackedLinear(nn.Linear):
    """``nn.Linear`` with a faster way where no gradient is wanted.

    Weights and names are those of ``nn.Linear``, results too, up to rounding.
    In testing on CPUs the product is oneDNN's, by the operator that
    ``torch.compile`` makes of a linear layer: it adds the bias within the
    product, where PyTorch first writes it to all rows, and takes weights that
    :func:`packed` has cast and laid out once.

    Args:
        in_features (int): Columns of the input.
        out_features (int): Columns of the output.
        num_parts (int): Into which the outputs can be split, see
            :meth:`part`.

    Raises:
        ValueError: If the outputs cannot be split so.
    """

    def __init__(self, in_features: int, out_features: int, num_parts: int = 1) -> None:
        if out_features % num_parts:
            raise ValueError(f'{out_features} outputs cannot be split into num_parts={num_parts}')
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

        Raises:
            RuntimeError: If the shapes or precisions do not fit, as
                ``F.linear`` does.
        """
        if self._is_plain(x):
            return F.linear(x, *self.parts()[index])
        weight, bias = (self.held or self.parts())[index]
        return torch.ops.mkldnn._linear_pointwise(x.to(bias.dtype), weight, bias, 'none', [], '')

    def _is_plain(self, x: Tensor) -> bool:
        """Whether ``F.linear`` is wanted, or has to complain."""
        if (
            torch.is_grad_enabled()
            or torch.compiler.is_compiling()
            or torch.jit.is_tracing()
            or x.device.type != 'cpu'
            or not torch.backends.mkldnn.enabled
            or x.size(-1) != self.in_features
        ):
            return True
        if self.held is not None:  # as autocast would
            return x.dtype not in (torch.float32, torch.bfloat16)
        # of whole weights autocast keeps what it has cast
        return (
            x.dtype not in PRECISIONS
            or x.dtype != self.weight.dtype
            or torch.is_autocast_enabled('cpu')
        )

    def parts(self) -> List[Tuple[Tensor, Tensor]]:
        """Weight and bias of each part, views."""
        if self.num_parts == 1:  # the parameters themselves
            return [(self.weight, self.bias)]
        size = self.out_features // self.num_parts
        return list(zip(self.weight.split(size), self.bias.split(size)))

    def __getstate__(self) -> Dict[str, Any]:
        """Copies hold nothing: packed tensors can be neither copied nor
        saved."""
        return dict(self.__dict__, held=None)


@contextmanager
def packed(model: nn.Module, dtype: Optional[torch.dtype]) -> Iterator[None]:
    """Hold the weights of all :class:`PackedLinear` in another precision.

    Autocast keeps what it has cast of whole, trainable weights only, and lays
    them out anew for each product. The weights themselves are not touched,
    and changes of theirs are not seen while this lasts.

    Args:
        model (nn.Module): Whose layers are meant, those on the CPU.
        dtype (torch.dtype, optional): That of autocast. In float32 (None) and
            where the CPU does not compute in it nothing is held.
    """
    layers = [
        layer
        for layer in model.modules()
        if isinstance(layer, PackedLinear)
        and layer.weight.device.type == 'cpu'
        and dtype in PRECISIONS
    ]
    before = [layer.held for layer in layers]
    try:
        for layer in layers:
            layer.held = [
                (
                    torch.ops.mkldnn._reorder_linear_weight(w.detach().to(dtype)),
                    b.detach().to(dtype),
                )
                for w, b in layer.parts()
            ]
        yield
    finally:
        for layer, held in zip(layers, before):
            layer.held = held
