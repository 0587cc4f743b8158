"""The benchmark's table."""
from dataclasses import dataclass
from typing import List, Optional, Sequence


@dataclass
class Measurement:
    """A piece of work, timed.

    Args:
        work (str): What was done.
        images (int): In one call.
        precision (str): Of ours; the reference is always fp32.
        seconds (float): A call, median.
        reference_seconds (float, optional): The same, the reference's way.
        peak_bytes (int, optional): Memory needed, see :func:`peak_memory`.
        reference_peak_bytes (int, optional): The same.
        flops (int, optional): Of matrix products and convolutions.
        peak_share (float, optional): Of the device's matrix peak that was
            reached.
    """

    work: str
    images: int
    precision: str
    seconds: float
    reference_seconds: Optional[float] = None
    peak_bytes: Optional[int] = None
    reference_peak_bytes: Optional[int] = None
    flops: Optional[int] = None
    peak_share: Optional[float] = None

    @property
    def ratio(self) -> Optional[float]:
        """How many times faster than the reference."""
        if self.reference_seconds is None:
            return None
        return self.reference_seconds / self.seconds


_HEADER = ('work', 'images', 'precision', 'ms/image', 'reference', 'ratio',
           'GFLOP/image', 'of peak', 'MiB', 'reference')


def render(measurements: Sequence[Measurement]) -> str:
    """A Markdown table; columns that nothing fills are left out."""
    rows: List[List[str]] = [list(_HEADER)]
    for m in measurements:
        rows.append([
            m.work, str(m.images), m.precision,
            _number(m.seconds, 1000 / m.images),
            _number(m.reference_seconds, 1000 / m.images),
            _number(m.ratio, 1, 2, 'x'),
            _number(m.flops, 1e-9 / m.images, 0),
            _number(m.peak_share, 100, 0, ' %'),
            _number(m.peak_bytes, 2**-20, 0),
            _number(m.reference_peak_bytes, 2**-20, 0)
        ])
    columns = [c for c in zip(*rows) if any(c[1:])]
    widths = [max(map(len, column)) for column in columns]
    lines = ['| ' + ' | '.join(cell.ljust(w) for cell, w in zip(row, widths))
             + ' |' for row in zip(*columns)]
    lines.insert(1, '|' + '|'.join('-' * (w + 2) for w in widths) + '|')
    return '\n'.join(lines)


def _number(value: Optional[float], scale: float, digits: int = 1,
            unit: str = '') -> str:
    return '' if value is None else f'{value * scale:.{digits}f}{unit}'
