"""What stands in, in a graph, for what a graph cannot hold."""

from typing import Any, NamedTuple, Sequence

import torch
from torch import Tensor, nn

from ..models.roi_gather import GatherRoIExtractor


class GivenNoise:
    """In the place of :class:`PerImageNoise`: rows of a tensor, one a draw.

    Args:
        noise (Tensor): (draws, N, 4).
        renewal_from (int): The first row that box renewal draws.
    """

    def __init__(self, noise: Tensor, renewal_from: int) -> None:
        self._noise = noise
        self._renewal_from = renewal_from
        self._next = 0

    @property
    def generators(self) -> Any:
        """What a step is handed to draw from."""
        return self

    def spawn(self, name: str) -> 'GivenNoise':
        """The draws of ``name``; only box renewal has any."""
        other = GivenNoise(self._noise, self._renewal_from)
        other._next = self._renewal_from
        return other

    def __call__(self, *shape: int) -> Tensor:
        """The next draw, (1, N, 4)."""
        self._next += 1
        return self._noise[self._next - 1 : self._next]


class TimeTable(nn.Module):
    """Embeddings of the timesteps that are visited.

    They are sines of numbers up to T: another library's rounding of the
    frequencies would count a thousandfold.

    Args:
        time_mlp (Module): (B,) timesteps to (B, 4 d).
        timesteps (Sequence[float]): Those that are visited.
    """

    def __init__(self, time_mlp: nn.Module, timesteps: Sequence[float]) -> None:
        super().__init__()
        times = torch.tensor(sorted({int(t) for t in timesteps}))
        self.register_buffer('times', times)
        with torch.no_grad():
            self.register_buffer('values', torch.cat([time_mlp(t[None]) for t in times]))

    def forward(self, t: Tensor) -> Tensor:
        """(B,) timesteps to (B, 4 d)."""
        return (t[:, None] == self.times).float() @ self.values


class _SymbolicTable(NamedTuple):
    """Rows of all levels, (L, 3) height, width and scale, and (L,) where each ends."""

    rows: Tensor
    geometry: Tensor
    ends: Tensor


class SymbolicRoIExtractor(GatherRoIExtractor):
    """The same values where heights and widths are symbols, for one image."""

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
