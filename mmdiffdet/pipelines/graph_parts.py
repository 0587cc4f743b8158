"""Replacements of what a graph for export cannot hold: generators, time embedding, RoIs."""

from typing import Any, Sequence

import torch
from torch import Tensor, nn

from ..models.roi_gather import FeatureTable, GatherRoIExtractor, _taps


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


class SymbolicRoIExtractor(GatherRoIExtractor):
    """:class:`GatherRoIExtractor` of one image whose height and width are symbols."""

    def tabulate(self, feats: Sequence[Tensor]) -> FeatureTable:
        """See :meth:`GatherRoIExtractor.tabulate`."""
        rows = torch.cat([f.permute(0, 2, 3, 1).flatten(0, 2) for f in feats])
        geometry, places, first = [], [], 0
        for feat, stride in zip(feats, self.featmap_strides):
            h, w = feat.shape[-2:]
            for values, levels, dtype in (
                ((-0.5, 1 / stride, -1, w, h, 0, w - 1, h - 1), geometry, rows.dtype),
                ((1, w, 0, first, 0, w - 1, h - 1), places, torch.int32),
            ):
                levels.append(torch.cat([rows.new_full((1,), v, dtype=dtype) for v in values]))
            first = first + h * w
        return FeatureTable(
            rows, torch.stack(geometry)[None], torch.stack(places)[None], self._grid
        )

    def pool(self, table: FeatureTable, boxes: Tensor) -> Tensor:
        """See :meth:`GatherRoIExtractor.pool`."""
        place, weight = self._axes(table, boxes)
        pooled = 0
        # the taps of a row at a time: a table of all would be four times as large
        parts = (x.split(2 * self.sampling_ratio, -1) for x in (place, weight))
        for index, factor in map(_taps, *parts):
            pooled = pooled + (table.rows[index.long()] * factor[..., None]).sum(1)
        return pooled
