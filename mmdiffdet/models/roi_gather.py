"""RoI features as one gather over all levels."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Optional, Sequence, Tuple, Union

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..device import on_device
from ..registry import MODELS


class TapGrid(NamedTuple):
    """What is the same for all RoIs, made once for many calls.

    A bin is the sum of T = (2 sampling_ratio)^2 taps, y before x; each has its
    place on either axis.

    Args:
        fraction (Tensor): (2, bins * T), position of the sample within the RoI as
            a share of its side, by x and by y.
        offset (Tensor): (2, bins * T) int32, 0 for the pixel before the sample,
            1 for the one after it.
        base (Tensor): (2, bins * T), weight of a sample that lies on the pixel
            before it.
        slope (Tensor): (2, bins * T), change of that weight for each pixel that
            the sample lies further.
        areas (Tensor): (L - 1,), square pixels from which on a RoI belongs to
            the second and later levels.
    """

    fraction: Tensor
    offset: Tensor
    base: Tensor
    slope: Tensor
    areas: Tensor


@dataclass
class FeatureTable:
    """Feature maps as rows of one table.

    Args:
        rows (Tensor): (sum of B H W, C), level by level, image by image.
        geometry (Tensor): (B, L, 8), -1/2, 1 / stride, -1, width, height, 0,
            width - 1 and height - 1 of each level.
        places (Tensor): (B, L, 7) int32, how many rows a step along x and y is
            (1, width), 0 and the first row, 0, width - 1 and height - 1.
        grid (TapGrid): Of the extractor.
    """

    rows: Tensor
    geometry: Tensor
    places: Tensor
    grid: TapGrid


class _Gather(torch.autograd.Function):
    """Weighted sums of rows, (R, C) by :func:`_taps` to (M * bins^2, C).

    The gradient of a row is a weighted sum as well, over the places that it
    was gathered for: the same kernel on the transposed indices. PyTorch's own
    gradient adds place by place, three times slower on CPUs and in bfloat16
    without a longer accumulator. The taps are worked out again for it, as
    keeping those of all stages would take more memory than RoIAlign.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, place: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(place, weight)
        ctx.num_rows = len(rows)
        index, weight = _taps(place, weight)
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
        return grad, None, None


def _taps(place: Tensor, weight: Tensor) -> Tuple[Tensor, Tensor]:
    """Outer product of the taps along the two axes.

    Args:
        place (Tensor): (M, 2, bins, T), rows of the table to go along x, and
            the first row and those to go along y, int32.
        weight (Tensor): (M, 2, bins, T), float32.

    Returns:
        tuple: (M * bins^2, T) rows of the table, and their weights.
    """
    index = place[:, 1, :, None] + place[:, 0, None]
    weights = weight[:, 1, :, None] * weight[:, 0, None]
    return index.flatten(0, 2), weights.flatten(0, 2)


@MODELS.register_module()
class GatherRoIExtractor(BaseModule):
    """Aligned RoIAlign over a feature pyramid, in plain PyTorch.

    The values are those of ``mmdet.SingleRoIExtractor`` with
    ``RoIAlign(aligned=True)``: a RoI is pooled from level
    floor(log2(sqrt(area) / finest_scale)), each bin is the mean of
    sampling_ratio^2 bilinear samples. All taps of all bins are one
    ``embedding_bag`` over the channels-last maps, on any device;
    ``mmdiffdet.fast`` has one kernel for tests on GPUs.

    Args:
        out_channels (int): C of the maps.
        featmap_strides (Sequence[int]): Stride of each level, in pixels.
        output_size (int): Bins along a side. Defaults to 7.
        sampling_ratio (int): Samples along a bin's side. Defaults to 2.
        finest_scale (int): Half the side, in pixels, from which a square RoI
            belongs to the second level. Defaults to 56, a border at 112.
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
        self._grid = self._tap_grid()

    def tabulate(self, feats: Sequence[Tensor]) -> FeatureTable:
        """Lay out (B, C, H, W) maps for the gather, once for many calls."""
        rows = torch.cat([f.permute(0, 2, 3, 1).reshape(-1, f.size(1)) for f in feats])
        batch = len(feats[0])
        geometry, places, first = [], [], 0
        for feat, stride in zip(feats, self.featmap_strides):
            h, w = feat.shape[-2:]
            geometry.append([-0.5, 1 / stride, -1, w, h, 0, w - 1, h - 1])
            places.append([[1, w, 0, first + i * h * w, 0, w - 1, h - 1] for i in range(batch)])
            first += batch * h * w
        return FeatureTable(
            rows,
            on_device(geometry, rows.device).expand(batch, -1, -1),
            on_device(places, rows.device, torch.int32).transpose(0, 1),
            TapGrid(*(on_device(x, rows.device, x.dtype) for x in self._grid)),
        )

    def forward(self, feats: Union[Sequence[Tensor], FeatureTable], rois: Tensor) -> Tensor:
        """Pool RoIs.

        Args:
            feats (Sequence[Tensor] | FeatureTable): (B, C, H, W) maps of the
                levels, or :meth:`tabulate` of them.
            rois (Tensor): (B, N, 4), xyxy in pixels of each image, or (M, 5),
                image index and xyxy. No gradient reaches them.

        Returns:
            Tensor: (M, C, output_size, output_size), channels last in memory;
            M is B N for boxes of each image.
        """
        table = feats if isinstance(feats, FeatureTable) else self.tabulate(feats)
        rois = rois.detach().float()
        if rois.dim() == 2:  # each as if it were the only one of its image
            image, rois = rois[:, 0].long(), rois[:, None, 1:]
            table = replace(table, geometry=table.geometry[image], places=table.places[image])
        size = self.output_size
        pooled = self.pool(table, rois).view(-1, size, size, table.rows.size(1))
        return pooled.permute(0, 3, 1, 2)

    def pool(self, table: FeatureTable, boxes: Tensor) -> Tensor:
        """(B, N, 4) boxes to (B N bins^2, C)."""
        return _Gather.apply(table.rows, *self._axes(table, boxes))

    def _axes(self, table: FeatureTable, boxes: Tensor) -> Tuple[Tensor, Tensor]:
        """Taps along the two axes, as :func:`_taps` takes them.

        Follows RoIAlign at the border: samples more than one pixel outside
        count as zero, others are moved onto the map. x and y are columns of
        one tensor, as it is the number of operators that counts on a GPU.
        """
        grid = table.grid
        level = self._levels(boxes, grid.areas)[..., None]
        geometry = table.geometry.gather(1, level.expand(-1, -1, table.geometry.size(-1)))
        places = table.places.gather(1, level.expand(-1, -1, table.places.size(-1)))
        half, scale = geometry[..., :1], geometry[..., 1:2]
        corners = torch.addcmul(half, boxes, scale)  # exact where strides are powers of 2
        bounds = geometry[..., 2:, None]
        step, first = places[..., :2, None], places[..., 2:4, None]

        start, end = corners[..., :2, None], corners[..., 2:, None]
        x = start + grid.fraction * (end - start)
        inside = x == torch.clamp(x, bounds[..., :1, :], bounds[..., 1:3, :])
        x = torch.clamp(x, bounds[..., 3:4, :], bounds[..., 4:, :])
        weight = torch.addcmul(grid.base, grid.slope, x.frac()) * inside  # NaN stays
        position = torch.clamp(x.int() + grid.offset, places[..., 4:5, None], places[..., 5:, None])
        place = torch.addcmul(first, position, step)
        shape = (-1, 2, self.output_size, 4 * self.sampling_ratio**2)
        return place.view(shape), weight.view(shape)

    def _levels(self, boxes: Tensor, areas: Tensor) -> Tensor:
        """(..., 4) boxes in pixels to (...) levels; empty boxes to the finest."""
        width, height = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).unbind(-1)
        return torch.bucketize(width * height, areas, right=True)

    def _tap_grid(self) -> TapGrid:
        bins, ratio = self.output_size, self.sampling_ratio
        taps = torch.cartesian_prod(*[torch.arange(2 * ratio, device='cpu')] * 2)
        taps = taps.T.flip(0)[:, None].contiguous()  # (2, 1, T), of x and of y
        sample = torch.arange(bins, device='cpu')[:, None] * ratio + taps // 2
        offset = (taps % 2).expand_as(sample).flatten(1).int()
        return TapGrid(
            ((sample + 0.5) / (bins * ratio)).flatten(1),
            offset,
            (1.0 - offset) / ratio,
            (2.0 * offset - 1) / ratio,
            _least_areas(len(self.featmap_strides), self.finest_scale),
        )


def _least_areas(num_levels: int, finest_scale: int) -> Tensor:
    """The least float32 area of levels 1, 2, ... by MMDetection's formula.

    Comparing areas with them is the formula to the last bit, in one operator,
    and the same on all devices. Numbers of one sign are ordered as their bits.
    """
    levels = torch.arange(1, num_levels, device='cpu')
    low = torch.zeros(len(levels), dtype=torch.int32, device='cpu')
    high = torch.full_like(low, 0x7F7FFFFF)  # the largest number
    for _ in range(31):
        middle = low + (high - low) // 2
        side = middle.view(torch.float32).sqrt()
        reached = (side / finest_scale + 1e-6).log2().floor() >= levels
        low, high = torch.where(reached, low, middle), torch.where(reached, middle, high)
    return high.view(torch.float32)
