"""Seconds, memory and floating-point operations of a call."""
import ctypes
import statistics
import time
from collections import defaultdict
from contextlib import nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import (
    Any,
    Callable,
    ContextManager,
    Dict,
    List,
    Mapping,
    Sequence,
)

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..engine.stopwatch import wait_for_device

Way = Callable[[], Any]


def interleave(
    ways: Mapping[str, Way],
    repeats: int,
    states: Mapping[str, Callable[[], ContextManager]] = MappingProxyType({})
) -> Dict[str, float]:
    """Median seconds of each way; all of them take turns.

    What disturbs the machine then disturbs all ways alike. A round that is
    not counted comes first.

    Args:
        ways (Mapping[str, Callable]): Calls by name.
        repeats (int): Rounds that are counted.
        states (Mapping[str, Callable]): Context managers that are entered
            before the call of the same name, and not timed.
    """
    seconds: Dict[str, List[float]] = {name: [] for name in ways}
    for _ in range(repeats + 1):
        for name, way in ways.items():
            with states.get(name, nullcontext)():
                wait_for_device()
                start = time.perf_counter()
                way()
                wait_for_device()
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(found[1:])
            for name, found in seconds.items()}


class PartTimer:
    """Seconds spent in groups of modules during a ``with`` statement.

    Args:
        parts (Mapping[str, Sequence[nn.Module]]): Modules by name of their
            part; none may lie within another.
    """

    def __init__(self, parts: Mapping[str, Sequence[nn.Module]]) -> None:
        self.parts = parts
        self.seconds: Dict[str, float] = defaultdict(float)
        self._handles: list = []
        self._started = 0.0

    def __enter__(self) -> 'PartTimer':
        for name, modules in self.parts.items():
            for module in modules:
                self._handles += [
                    module.register_forward_pre_hook(self._start),
                    module.register_forward_hook(self._stop(name))
                ]
        return self

    def __exit__(self, *error: Any) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _start(self, *_: Any) -> None:
        wait_for_device()
        self._started = time.perf_counter()

    def _stop(self, name: str) -> Callable:

        def stop(*_: Any) -> None:
            wait_for_device()
            self.seconds[name] += time.perf_counter() - self._started

        return stop


def median_parts(parts: Mapping[str, Sequence[nn.Module]], whole: str,
                 way: Way, repeats: int) -> Dict[str, float]:
    """Median seconds of parts, of the whole, and of what is in no part.

    Args:
        parts (Mapping[str, Sequence[nn.Module]]): See :class:`PartTimer`.
        whole (str): Name of the whole.
        way (Callable): The call.
        repeats (int): Calls that are counted; one more comes first.
    """
    runs = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        with PartTimer(parts) as timer:
            way()
            wait_for_device()
        total = time.perf_counter() - start
        runs.append({**timer.seconds,
                     'rest': total - sum(timer.seconds.values()),
                     whole: total})
    return {name: statistics.median(run[name] for run in runs[1:])
            for name in runs[0]}


def count_flops(way: Way) -> int:
    """Floating-point operations of the matrix products and convolutions.

    A multiplication and an addition are two. Gathers, normalisations and
    activations are not counted: memory is what they wait for.
    """
    with FlopCounterMode(display=False) as counter:
        way()
    return counter.get_total_flops()


def matrix_peak(dtype: torch.dtype, device: torch.device,
                size: int = 1024, repeats: int = 8) -> float:
    """Operations a second of a square product, the best of several."""
    a, b = torch.rand(2, size, size, device=device).to(dtype)
    best = min(interleave({'': lambda: a @ b}, 1)[''] for _ in range(repeats))
    return 2 * size**3 / best


def peak_memory(way: Way) -> int:
    """Bytes that a call needs at its highest point, above what was there.

    On a GPU what PyTorch hands out; elsewhere the resident memory of the
    process, as Linux counts it (0 where it does not).
    """
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        way()
        return torch.cuda.max_memory_allocated() - before
    reset = Path('/proc/self/clear_refs')
    if not reset.exists():
        way()
        return 0
    trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)
    if trim is not None:  # what was freed but kept would hide the need
        trim(0)
    reset.write_text('5')  # the high-water mark, see proc(5)
    before = _resident('VmRSS')
    way()
    return max(0, _resident('VmHWM') - before)


def _resident(name: str) -> int:
    lines = Path('/proc/self/status').read_text().splitlines()
    line = next(line for line in lines if line.startswith(name))
    return int(line.split()[1]) * 1024
