"""Dynamic convolution."""

from torch import Tensor, nn


class DynamicConv(nn.Module):
    """Filter each proposal's RoI with two matrices made from its features.

    (Sparse R-CNN, arXiv 2011.12450, sec. 3.2) ``mmdiffdet.fast`` puts a faster class in
    its place in tests and trainings.

    Args:
        feat_channels (int): d.
        dynamic_dim (int): m, the width between the two matrices.
        num_points (int): P, positions of a RoI, 49 for 7x7.
    """

    def __init__(self, feat_channels: int, dynamic_dim: int, num_points: int) -> None:
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
        first, second = self.dynamic_layer(features).chunk(2, dim=1)
        x = self.norm1(roi @ first.view(-1, d, m)).relu()
        x = self.norm2(x @ second.view(-1, m, d)).relu()
        return self.norm3(self.out_layer(x.flatten(1))).relu()
