"""The gather of RoI features as one Triton kernel, which makes its taps itself."""

import triton
import triton.language as tl
from torch import Tensor

from ..models.roi_gather import FeatureTable


@triton.jit
def _tap(start, end, length, k, fraction, offset, base, slope):
    """Position and weight of a tap on one axis, as ``_axes`` of the extractor."""
    x = start + tl.load(fraction + k) * (end - start)
    kept = tl.minimum(tl.maximum(tl.where(x == x, x, 0.0), 0.0), length - 1)
    low = tl.floor(kept)
    weight = tl.load(base + k) + tl.load(slope + k) * (kept - low)
    weight = tl.where((x >= -1) & (x <= length), weight, 0.0)
    last = (length - 1).to(tl.int32)
    position = tl.minimum(low.to(tl.int32) + tl.load(offset + k), last)
    return position, tl.where(x == x, weight, x)  # NaN stays in the weight


@triton.jit
def _pool_bin(
    rows,
    boxes,
    geometry,
    places,
    areas,
    fraction,
    offset,
    base,
    slope,
    out,
    num_boxes,
    num_areas,
    channels,
    geometry_image,
    geometry_level,
    places_image,
    places_level,
    bins: tl.constexpr,
    taps: tl.constexpr,
    block: tl.constexpr,
):
    """One bin of one box, all channels."""
    place = tl.program_id(0)
    box = place // (bins * bins)
    image = box // num_boxes
    x1 = tl.load(boxes + box * 4)
    y1 = tl.load(boxes + box * 4 + 1)
    x2 = tl.load(boxes + box * 4 + 2)
    y2 = tl.load(boxes + box * 4 + 3)
    area = tl.maximum(x2 - x1, 0.0) * tl.maximum(y2 - y1, 0.0)
    level = 0
    for i in range(num_areas):
        level += (area >= tl.load(areas + i)).to(tl.int32)

    geometry += image * geometry_image + level * geometry_level
    places += image * places_image + level * places_level
    half = tl.load(geometry)
    scale = tl.load(geometry + 1)
    width = tl.load(geometry + 3)
    height = tl.load(geometry + 4)
    step = tl.load(places + 1)
    first = tl.load(places + 3)

    x_bin = (place % bins) * taps
    y_bin = (bins + place // bins % bins) * taps  # in the second row of the grid
    channel = tl.arange(0, block)
    total = tl.zeros([block], dtype=tl.float32)
    for k in range(taps):
        x, x_weight = _tap(
            x1 * scale + half, x2 * scale + half, width, x_bin + k, fraction, offset, base, slope
        )
        y, y_weight = _tap(
            y1 * scale + half, y2 * scale + half, height, y_bin + k, fraction, offset, base, slope
        )
        row = (first + y * step + x).to(tl.int64)
        values = tl.load(rows + row * channels + channel, mask=channel < channels, other=0.0)
        total += (x_weight * y_weight) * values.to(tl.float32)
    tl.store(
        out + place.to(tl.int64) * channels + channel,
        total.to(out.dtype.element_ty),
        mask=channel < channels,
    )


def pool(table: FeatureTable, boxes: Tensor, bins: int, taps: int) -> Tensor:
    """Pool boxes; no gradient.

    Sums are in float32 and in one order, the same to the last bit each time.

    Args:
        table (FeatureTable): On the GPU.
        boxes (Tensor): (B, N, 4) float32, xyxy in pixels.
        bins (int): Along a side.
        taps (int): Of a bin, (2 sampling_ratio)^2.

    Returns:
        Tensor: (B N bins^2, C), of the rows' type.
    """
    rows, boxes = table.rows.contiguous(), boxes.contiguous()
    grid, channels = table.grid, rows.size(1)
    out = rows.new_empty(boxes[..., 0].numel() * bins**2, channels)
    if out.numel():
        _pool_bin[(len(out),)](
            rows,
            boxes,
            table.geometry,
            table.places,
            grid.areas,
            grid.fraction,
            grid.offset,
            grid.base,
            grid.slope,
            out,
            boxes.size(1),
            len(grid.areas),
            channels,
            *table.geometry.stride()[:2],
            *table.places.stride()[:2],
            bins=bins,
            taps=taps,
            block=triton.next_power_of_2(channels),
        )
    return out
