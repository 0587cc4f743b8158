"""The benchmark's table."""

from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Dict, List, Optional, Sequence


@dataclass
class Measurement:
    """A piece of work, timed.

    Args:
        work (str): What was done.
        images (int): In one call.
        precision (str): Of ours; the baseline is always fp32.
        times (list[float]): Seconds of each call.
        baseline_times (list[float], optional): The same of the baseline,
            MMDetection's way.
        peak_bytes (int, optional): Memory needed, see :func:`peak_memory`.
        baseline_peak_bytes (int, optional): The same.
        flops (int, optional): Of matrix products and convolutions.
        matrix_peak (float, optional): Operations a second of the device, measured
            or as its maker says.
    """

    work: str
    images: int
    precision: str
    times: List[float]
    baseline_times: Optional[List[float]] = None
    peak_bytes: Optional[int] = None
    baseline_peak_bytes: Optional[int] = None
    flops: Optional[int] = None
    matrix_peak: Optional[float] = None

    @property
    def seconds(self) -> float:
        """Median of a call."""
        return median(self.times)

    @property
    def baseline_seconds(self) -> Optional[float]:
        """Median of a call, the baseline."""
        return median(self.baseline_times) if self.baseline_times else None

    @property
    def ratio(self) -> Optional[float]:
        """How many times faster than the baseline."""
        return self.baseline_seconds / self.seconds if self.baseline_times else None

    @property
    def peak_share(self) -> Optional[float]:
        """Share of the matrix peak that is reached."""
        return (
            self.flops / self.seconds / self.matrix_peak
            if self.flops and self.matrix_peak
            else None
        )

    def record(self) -> Dict[str, Any]:
        """All of it, for JSON."""
        return dict(
            asdict(self), seconds=self.seconds, ratio=self.ratio, peak_share=self.peak_share
        )


_HEADER = (
    'work',
    'images',
    'precision',
    'ms/image',
    'images/s',
    'spread',
    'baseline',
    'ratio',
    'GFLOP/image',
    'of matrix peak',
    'MiB',
    'baseline MiB',
)


def render(measurements: Sequence[Measurement]) -> str:
    """A Markdown table; columns that nothing fills are left out.

    ``spread`` is the slowest call less the fastest, relative to the median;
    ``of matrix peak`` the share of what square matrix products reach here;
    MiB what a call needs above what was there.
    """
    rows: List[List[str]] = [list(_HEADER)]
    for m in measurements:
        rows.append(
            [
                m.work,
                str(m.images),
                m.precision,
                _number(m.seconds, 1000 / m.images),
                f'{m.images / m.seconds:.1f}',
                _number((max(m.times) - min(m.times)) / m.seconds, 100, 0, ' %')
                if len(m.times) > 1
                else 'n/a',
                _number(m.baseline_seconds, 1000 / m.images),
                _number(m.ratio, 1, 2, 'x'),
                _number(m.flops, 1e-9 / m.images, 0),
                _number(m.peak_share, 100, 0, ' %'),
                _number(m.peak_bytes, 2**-20, 0),
                _number(m.baseline_peak_bytes, 2**-20, 0),
            ]
        )
    columns = [c for c in zip(*rows) if any(c[1:])]
    widths = [max(map(len, column)) for column in columns]
    lines = [
        '| ' + ' | '.join(cell.ljust(w) for cell, w in zip(row, widths)) + ' |'
        for row in zip(*columns)
    ]
    lines.insert(1, '|' + '|'.join('-' * (w + 2) for w in widths) + '|')
    return '\n'.join(lines)


def _number(value: Optional[float], scale: float, digits: int = 1, unit: str = '') -> str:
    return '' if value is None else f'{value * scale:.{digits}f}{unit}'
