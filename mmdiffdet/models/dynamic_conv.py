"""Dynamic convolution."""
from contextlib import contextmanager
from typing import Any, Iterator, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import register_flop_formula


class DynamicConv(nn.Module):
    """Filter each proposal's RoI with matrices made from its features.

    (Sparse R-CNN, arXiv 2011.12450, sec. 3.2)

    Args:
        feat_channels (int): d.
        dynamic_dim (int): m, the width between the two matrices.
        num_points (int): Positions of a RoI, 49 for 7x7.
    """

    def __init__(self, feat_channels: int, dynamic_dim: int,
                 num_points: int) -> None:
        super().__init__()
        d, m = feat_channels, dynamic_dim
        self.feat_channels = d
        self.dynamic_dim = m
        self.dynamic_layer = nn.Linear(d, 2 * d * m)
        self.norm1 = nn.LayerNorm(m)
        self.norm2 = nn.LayerNorm(d)
        self.out_layer = nn.Linear(num_points * d, d)
        self.norm3 = nn.LayerNorm(d)

    def forward(self, features: Tensor, roi: Tensor) -> Tensor:
        """(M, d) features and (M, P, d) RoI features to (M, d)."""
        d, m = self.feat_channels, self.dynamic_dim
        # a product for each matrix: halves of one would not be contiguous
        weight = self.dynamic_layer.weight.split(d * m)
        bias = self.dynamic_layer.bias.split(d * m)
        first = _linear(features, weight[0], bias[0]).view(-1, d, m)
        x = _norm_relu(self.norm1, torch.bmm(roi, first))
        del first  # memory for the second
        second = _linear(features, weight[1], bias[1]).view(-1, m, d)
        x = _norm_relu(self.norm2, torch.bmm(x, second))
        return _norm_relu(self.norm3, self.out_layer(x.flatten(1)))


def _linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``F.linear``, faster on CPUs where no gradient is wanted.

    oneDNN adds the bias within the product. PyTorch's own way first writes
    the bias to all rows, and in float32 leaves the product to a library that
    is slower for so few rows. The operator is what ``torch.compile`` makes
    of a linear layer; it has no gradient and is not known to autocast.
    """
    if (x.device.type != 'cpu' or torch.is_grad_enabled()
            or torch.compiler.is_compiling() or not _HAS_ONEDNN):
        return F.linear(x, weight, bias)
    if torch.is_autocast_enabled('cpu'):
        dtype = torch.get_autocast_dtype('cpu')
        x, weight, bias = x.to(dtype), weight.to(dtype), bias.to(dtype)
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, 'none', [], '')


_HAS_ONEDNN = (
    torch.backends.mkldnn.is_available()
    and hasattr(torch.ops.mkldnn, '_linear_pointwise'))
if _HAS_ONEDNN:

    @register_flop_formula(torch.ops.mkldnn._linear_pointwise)
    def _linear_flops(x: torch.Size, weight: torch.Size, *_: Any,
                      **__: Any) -> int:
        return 2 * x.numel() * weight[0]


def _norm_relu(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """Normalise and clip, in the precision of ``x``.

    Autocast would go to float32 and back; the CPU's kernel computes in
    float32 whatever it reads and writes.
    """
    if x.device.type != 'cpu':  # other kernels want one precision
        return norm(x).relu()
    with torch.autocast(x.device.type, enabled=False):
        return F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias,
                            norm.eps).relu_()


@contextmanager
def matrices_in(model: nn.Module,
                dtype: Optional[torch.dtype]) -> Iterator[None]:
    """Hold the weights that make the matrices in another precision.

    Autocast keeps what it has cast of whole, trainable weights only, not of
    halves. Afterwards the weights are what they were, to the last bit. Not
    for a model that is being trained: what DDP knows of its weights is lost.

    Args:
        model (nn.Module): Whose :class:`DynamicConv` are meant.
        dtype (torch.dtype, optional): That of autocast; None changes nothing.
    """
    layers = [m.dynamic_layer for m in model.modules()
              if dtype is not None and isinstance(m, DynamicConv)]
    kept = [(p, p.data) for layer in layers for p in layer.parameters()]
    try:
        for parameter, value in kept:
            parameter.data = value.to(dtype)
        yield
    finally:
        for parameter, value in kept:
            parameter.data = value
