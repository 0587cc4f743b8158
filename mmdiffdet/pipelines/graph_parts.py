"""Replacements of what a graph for export cannot hold: generators, time embedding, RoIs."""

from typing import Any, NamedTuple, Sequence

import torch
from torch import Tensor, nn

from ..models.roi_gather import GatherRoIExtractor


class GivenNoise:
    """Replaces :class:`PerImageNoise` by rows of a tensor (draws, N, 4), one a draw.

    Box renewal draws from the row ``renewal_from`` on.
    """

    def __init__(self, noise: Tensor, renewal_from: int) -> None:
        self._noise = noise
        self._renewal_from = renewal_from
        self._next = 0

    @property
    def generators(self) -> Any:
        """The source that a step draws from."""
        return self

    def spawn(self, name: str) -> 'GivenNoise':
        """The draws of box renewal, the only one that has draws of its own."""
        other = GivenNoise(self._noise, self._renewal_from)
        other._next = self._renewal_from
        return other

    def __call__(self, *shape: int) -> Tensor:
        """The next draw, (1, N, 4)."""
        self._next += 1
        return self._noise[self._next - 1 : self._next]


class TimeTable(nn.Module):
    """Embeddings of the timesteps that sampling visits, computed by ``time_mlp`` beforehand.

    They are sines of numbers up to T: another library's rounding of the frequencies
    would count a thousandfold.
    """

    def __init__(self, time_mlp: nn.Module, timesteps: Sequence[float]) -> None:
        super().__init__()
        times = torch.tensor(sorted({int(t) for t in timesteps}))
        self.register_buffer('times', times)
        with torch.no_grad():
            self.register_buffer('values', torch.cat([time_mlp(t[None]) for t in times]))

    def forward(self, t: Tensor) -> Tensor:
        """Embeddings (B, 4 d) of timesteps (B,)."""
        return (t[:, None] == self.times).float() @ self.values


class _SymbolicTable(NamedTuple):
    """Rows of all L levels, (L, 3) height, width and scale, and (L,) where each ends."""

    rows: Tensor
    geometry: Tensor
    ends: Tensor


class SymbolicRoIExtractor(GatherRoIExtractor):
    """:class:`GatherRoIExtractor` of one image whose height and width are symbols."""

    def tabulate(self, feats: Sequence[Tensor]) -> _SymbolicTable:
        """See :meth:`GatherRoIExtractor.tabulate`."""
        rows = torch.cat([f.permute(0, 2, 3, 1).flatten(0, 2) for f in feats])
        geometry, ends, end = [], [], 0
        for feat, stride in zip(feats, self.featmap_strides):
            height, width = feat.shape[-2:]
            level = [rows.new_full((1,), value) for value in (height, width, 1 / stride)]
            geometry.append(torch.cat(level))
            end = end + height * width
            ends.append(torch.full((1,), end, dtype=torch.int32, device=rows.device))
        return _SymbolicTable(rows, torch.stack(geometry), torch.cat(ends))

    def forward(self, table: _SymbolicTable, rois: Tensor) -> Tensor:
        """See :meth:`GatherRoIExtractor.forward`."""
        boxes = rois[:, 1:]
        level = self._levels(boxes, len(self.featmap_strides))
        height, width, scale = table.geometry[level].unbind(1)
        first = table.ends[level] - (height * width).int()
        x1, y1, x2, y2 = (boxes * scale[:, None] - 0.5).unbind(1)
        row, row_weight = self._axis(y1, y2, height)
        col, col_weight = self._axis(x1, x2, width)
        row = first[:, None, None] + row * width.int()[:, None, None]
        pooled = 0
        # the taps of a row at a time: a table of all would be four times as large
        for i in range(row.size(-1)):
            index = row[:, :, None, i, None] + col[:, None]
            weight = row_weight[:, :, None, i, None] * col_weight[:, None]
            taps = table.rows[index.flatten(0, 2).long()]
            pooled = pooled + (taps * weight.flatten(0, 2)[..., None]).sum(1)
        size = self.output_size
        pooled = pooled.view(rois.size(0), size, size, self.out_channels)
        return pooled.permute(0, 3, 1, 2)
