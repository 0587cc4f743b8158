"""Dynamic convolution."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .groups import in_groups
from .packed_linear import PackedLinear


class DynamicConv(nn.Module):
    """Filter each proposal's RoI with matrices made from its features.

    (Sparse R-CNN, arXiv 2011.12450, sec. 3.2)

    Args:
        feat_channels (int): d.
        dynamic_dim (int): m, the width between the two matrices.
        num_points (int): Positions of a RoI, 49 for 7x7.
    """

    def __init__(self, feat_channels: int, dynamic_dim: int, num_points: int) -> None:
        super().__init__()
        d, m = feat_channels, dynamic_dim
        self.feat_channels = d
        self.dynamic_dim = m
        self.dynamic_layer = PackedLinear(d, 2 * d * m, num_parts=2)
        self.norm1 = nn.LayerNorm(m)
        self.norm2 = nn.LayerNorm(d)
        self.out_layer = PackedLinear(num_points * d, d)
        self.norm3 = nn.LayerNorm(d)

    def forward(self, features: Tensor, roi: Tensor) -> Tensor:
        """(M, d) features and (M, P, d) RoI features to (M, d)."""
        if torch.is_grad_enabled() or features.device.type != 'cpu':
            return self._filter(features, roi)
        row_bytes = self.feat_channels * self.dynamic_dim * roi.element_size()
        return in_groups(self._filter, row_bytes, features, roi)

    def _filter(self, features: Tensor, roi: Tensor) -> Tensor:
        d, m = self.feat_channels, self.dynamic_dim
        # a product for each matrix: halves of one would not be contiguous
        first = self.dynamic_layer.part(features, 0).view(-1, d, m)
        x = _norm_relu(self.norm1, torch.bmm(roi, first))
        del first  # memory for the second
        second = self.dynamic_layer.part(features, 1).view(-1, m, d)
        x = _norm_relu(self.norm2, torch.bmm(x, second))
        return _norm_relu(self.norm3, self.out_layer(x.flatten(1)))


def _norm_relu(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """Normalise and clip, in the precision of ``x``.

    Autocast would go to float32 and back; the CPU's kernel computes in
    float32 whatever it reads and writes.
    """
    if x.device.type != 'cpu':  # other kernels want one precision
        return norm(x).relu()
    with torch.autocast(x.device.type, enabled=False):
        return F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps).relu_()
