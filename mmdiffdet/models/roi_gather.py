"""RoI features as one gather over all levels."""

from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Optional, Sequence, Tuple, Union

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..device import on_device
from ..registry import MODELS


@dataclass
class FeatureTable:
    """Feature maps as rows of one table.

    Args:
        rows (Tensor): (sum of B H W, C), level by level, image by image.
        geometry (Tensor): (L, 3), height, width and 1 / stride of each level.
        ends (Tensor): (L,) int32, the row after the last one of each level.
        batch_size (int): B.
    """

    rows: Tensor
    geometry: Tensor
    ends: Tensor
    batch_size: int


class _Gather(torch.autograd.Function):
    """Weighted sums of rows, (L, C) by :func:`_taps` to (M * bins^2, C).

    The gradient of a row is a weighted sum as well, over the places that it
    was gathered for: the same kernel on the transposed indices. PyTorch's own
    gradient adds place by place, three times slower on CPUs and in bfloat16
    without a longer accumulator. The taps are worked out again for it, as
    keeping those of all stages would take more memory than RoIAlign.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, *axes: Tensor) -> Tensor:
        ctx.save_for_backward(*axes)
        ctx.num_rows = len(rows)
        index, weight = _taps(*axes)
        return F.embedding_bag(index, rows, mode='sum', per_sample_weights=weight.to(rows.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tuple[Optional[Tensor], ...]:
        index, weight = _taps(*ctx.saved_tensors)
        # a stable order: the same sums, to the last bit, each time
        row, place = index.flatten().sort(stable=True)
        first = torch.searchsorted(
            row, torch.arange(ctx.num_rows, dtype=torch.int32, device=row.device)
        )
        grad = F.embedding_bag(
            place // index.size(1),
            grad.contiguous(),
            first,
            mode='sum',
            per_sample_weights=weight.to(grad.dtype).flatten()[place],
        )
        return grad, None, None, None, None


def _taps(
    row: Tensor, row_weight: Tensor, col: Tensor, col_weight: Tensor
) -> Tuple[Tensor, Tensor]:
    """Outer product of the taps along the two axes.

    Args:
        row (Tensor): (M, bins, taps) first rows of the table, int32.
        row_weight (Tensor): (M, bins, taps), float32.
        col (Tensor): (M, bins, taps), added to ``row``.
        col_weight (Tensor): (M, bins, taps), float32.

    Returns:
        tuple: (M * bins^2, taps^2) rows of the table, and their weights.
    """
    side = row.size(-1)
    # (M, bins y, bins x, taps y * taps x)
    index = row.repeat_interleave(side, -1)[:, :, None] + col.repeat(1, 1, side)[:, None]
    weight = (
        row_weight.repeat_interleave(side, -1)[:, :, None] * col_weight.repeat(1, 1, side)[:, None]
    )
    return index.reshape(-1, side**2), weight.reshape(-1, side**2)


@MODELS.register_module()
class GatherRoIExtractor(BaseModule):
    """Aligned RoIAlign over a feature pyramid, in plain PyTorch.

    The values are those of ``mmdet.SingleRoIExtractor`` with
    ``RoIAlign(aligned=True)``: a RoI is pooled from level
    floor(log2(sqrt(area) / finest_scale)), each bin is the mean of
    sampling_ratio^2 bilinear samples. All taps of all bins are one
    ``embedding_bag`` over the channels-last maps, on any device.

    Args:
        out_channels (int): C of the maps.
        featmap_strides (Sequence[int]): Stride of each level, in pixels.
        output_size (int): Bins along a side. Defaults to 7.
        sampling_ratio (int): Samples along a bin's side. Defaults to 2.
        finest_scale (int): Side in pixels of a RoI at the border of the
            first two levels. Defaults to 56.
    """

    def __init__(
        self,
        out_channels: int,
        featmap_strides: Sequence[int],
        output_size: int = 7,
        sampling_ratio: int = 2,
        finest_scale: int = 56,
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.featmap_strides = list(featmap_strides)
        self.output_size = output_size
        self.sampling_ratio = sampling_ratio
        self.finest_scale = finest_scale

    def tabulate(self, feats: Sequence[Tensor]) -> FeatureTable:
        """Lay out (B, C, H, W) maps for the gather, once for many calls."""
        rows = torch.cat([f.permute(0, 2, 3, 1).reshape(-1, f.size(1)) for f in feats])
        sizes = [f.shape[-2:] for f in feats]
        geometry = [(h, w, 1 / stride) for (h, w), stride in zip(sizes, self.featmap_strides)]
        batch = len(feats[0])
        ends = accumulate(h * w * batch for h, w in sizes)
        return FeatureTable(
            rows,
            on_device(geometry, rows.device),
            on_device(list(ends), rows.device, torch.int32),
            batch,
        )

    def forward(self, feats: Union[Sequence[Tensor], FeatureTable], rois: Tensor) -> Tensor:
        """Pool RoIs.

        Args:
            feats (Sequence[Tensor] | FeatureTable): (B, C, H, W) maps of the
                levels, or :meth:`tabulate` of them.
            rois (Tensor): (M, 5), image index and xyxy in pixels. No gradient
                reaches them.

        Returns:
            Tensor: (M, C, output_size, output_size), channels last in memory.
        """
        table = feats if isinstance(feats, FeatureTable) else self.tabulate(feats)
        axes = self._axes(table, rois.detach().float())
        pooled = _Gather.apply(table.rows, *axes)
        size = self.output_size
        pooled = pooled.view(len(rois), size, size, pooled.size(1))
        return pooled.permute(0, 3, 1, 2)

    def _axes(self, table: FeatureTable, rois: Tensor) -> Tuple[Tensor, ...]:
        """Taps along the two axes, as :func:`_taps` takes them."""
        image, boxes = rois[:, 0].int(), rois[:, 1:]
        level = self._levels(boxes, len(table.geometry))
        height, width, scale = table.geometry[level].unbind(1)
        first = table.ends[level] - (table.batch_size - image) * (height * width).int()

        x1, y1, x2, y2 = (boxes * scale[:, None] - 0.5).unbind(1)
        row, row_weight = self._axis(y1, y2, height)
        col, col_weight = self._axis(x1, x2, width)
        row = first[:, None, None] + row * width.int()[:, None, None]
        return row, row_weight, col, col_weight

    def _axis(self, start: Tensor, end: Tensor, length: Tensor) -> Tuple[Tensor, Tensor]:
        """Taps along one axis: positions and weights, (M, bins, 2 samples).

        Follows RoIAlign at the border: samples more than one pixel outside
        count as zero, others are moved onto the map.
        """
        samples = self.output_size * self.sampling_ratio
        fraction = (torch.arange(samples, device=start.device) + 0.5) / samples
        x = start[:, None] + fraction * (end - start)[:, None]
        inside = (x >= -1) & (x <= length[:, None])
        x = x.clamp(min=0).minimum(length[:, None] - 1)
        low = x.floor().nan_to_num()  # NaN stays in the weight
        high = (low + 1).minimum(length[:, None] - 1)
        upper = x - low
        weight = torch.stack([1 - upper, upper], -1) * inside[..., None]
        position = torch.stack([low, high], -1).int()
        shape = (len(start), self.output_size, 2 * self.sampling_ratio)
        return position.view(shape), weight.view(shape) / self.sampling_ratio

    def _levels(self, boxes: Tensor, num_levels: int) -> Tensor:
        """(M, 4) boxes in pixels to (M,) levels; empty boxes to the finest."""
        sides = (boxes[:, 2:] - boxes[:, :2]).nan_to_num().clamp(min=0)
        width, height = sides.unbind(1)
        side = (width * height).sqrt()
        level = (side / self.finest_scale + 1e-6).log2().floor()
        return level.clamp(0, num_levels - 1).long()
