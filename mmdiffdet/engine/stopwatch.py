"""Honest times of the parts of a test."""

import platform
import time
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path
from typing import Dict, Hashable, Iterator, List, Tuple

import torch


class Stopwatch:
    """Seconds an image by name; the first measurements of each do not count.

    On a GPU each measurement waits for what was queued.

    Args:
        warmup (int): Measurements of a name that are left out, unless there
            are no others. Defaults to 1.
    """

    def __init__(self, warmup: int = 1) -> None:
        self.warmup = warmup
        self._measured: Dict[Hashable, List[Tuple[float, int]]] = defaultdict(list)

    @contextmanager
    def __call__(self, name: Hashable, num_images: int) -> Iterator[None]:
        """Measure the body of a ``with`` statement."""
        wait_for_device()
        start = time.perf_counter()
        yield
        wait_for_device()
        self.add(name, time.perf_counter() - start, num_images)

    def add(self, name: Hashable, seconds: float, num_images: int) -> None:
        """Add a measurement that was made elsewhere."""
        self._measured[name].append((seconds, num_images))

    def per_image(self, name: Hashable) -> float:
        """Mean seconds an image.

        Raises:
            KeyError: If nothing was measured under that name.
        """
        if name not in self._measured:
            raise KeyError(name)
        measured = self._measured[name]
        counted = measured[self.warmup :] or measured
        return sum(s for s, _ in counted) / sum(n for _, n in counted)


def wait_for_device() -> None:
    """Until a GPU has done what was queued; elsewhere nothing is."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def device_name(device: torch.device) -> str:
    """The hardware's own name, for CPUs with the number of threads."""
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    info = Path('/proc/cpuinfo')
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith('model name'):
                name = line.split(':', 1)[1].strip()
                break
    return f'{name}, {torch.get_num_threads()} threads'
