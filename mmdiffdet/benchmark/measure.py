"""Seconds, memory and floating-point operations of a call."""

import ctypes
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
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
)

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..engine.stopwatch import wait_for_device

Way = Callable[[], Any]
State = Callable[[], ContextManager]
NO_STATES: Mapping[str, State] = MappingProxyType({})
Parts = Mapping[str, Sequence[nn.Module]]


def _rounds(names: Sequence[str], repeats: int) -> Iterator[Sequence[str]]:
    """Orders of the ways: back and forth, so that none is always first."""
    for number in range(repeats + 1):
        yield names if number % 2 else names[::-1]


def interleave(
    ways: Mapping[str, Way], repeats: int, states: Mapping[str, State] = NO_STATES
) -> Dict[str, List[float]]:
    """Seconds of each call of each way; all of them take turns.

    What disturbs the machine then disturbs all ways alike. A round that is
    not counted comes first.

    Args:
        ways (Mapping[str, Callable]): Calls by name.
        repeats (int): Rounds that are counted.
        states (Mapping[str, Callable]): Context managers that are entered
            before the call of the same name, and not timed.
    """
    seconds: Dict[str, List[float]] = {name: [] for name in ways}
    for names in _rounds(list(ways), repeats):
        for name in names:
            with states.get(name, nullcontext)():
                seconds[name].append(_timed(ways[name]))
    return {name: found[1:] for name, found in seconds.items()}


def _timed(way: Way) -> float:
    wait_for_device()
    if torch.cuda.is_available():  # by the device's own clock
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        way()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1000
    begin = time.perf_counter()
    way()
    return time.perf_counter() - begin


class PartTimer:
    """Seconds spent in groups of modules during a ``with`` statement.

    Args:
        parts (Mapping[str, Sequence[nn.Module]]): Modules by name of their
            part; none may lie within another.
    """

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.seconds: Dict[str, float] = defaultdict(float)
        self._handles: list = []
        self._started = 0.0

    def __enter__(self) -> 'PartTimer':
        for name, modules in self.parts.items():
            for module in modules:
                self._handles += [
                    module.register_forward_pre_hook(self._start),
                    module.register_forward_hook(self._stop(name)),
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


def interleave_parts(
    parts: Mapping[str, Parts],
    ways: Mapping[str, Way],
    repeats: int,
    states: Mapping[str, State] = NO_STATES,
) -> Dict[str, Dict[str, List[float]]]:
    """Seconds of the parts of each way, as :func:`interleave`.

    Args:
        parts (Mapping[str, Mapping]): By way, see :class:`PartTimer`.
        ways (Mapping[str, Callable]): Calls by name.
        repeats (int): Rounds that are counted.
        states (Mapping[str, Callable]): See :func:`interleave`.

    Returns:
        dict[str, dict[str, list[float]]]: By way and part; ``rest`` is what
        is in no part.
    """
    seconds: Dict[str, Dict[str, List[float]]] = {name: {} for name in ways}
    for names in _rounds(list(ways), repeats):
        for name in names:
            with states.get(name, nullcontext)(), PartTimer(parts[name]) as timer:
                whole = _timed(ways[name])
            found = dict(timer.seconds, rest=whole - sum(timer.seconds.values()))
            for part, value in found.items():
                seconds[name].setdefault(part, []).append(value)
    return {
        name: {part: found[1:] for part, found in of_way.items()}
        for name, of_way in seconds.items()
    }


def count_flops(way: Way) -> int:
    """Floating-point operations of the matrix products and convolutions.

    A multiplication and an addition are two. Gathers, normalisations and
    activations are not counted: memory is what they wait for.
    """
    with FlopCounterMode(display=False) as counter:
        way()
    return counter.get_total_flops()


def matrix_peak(dtype: torch.dtype, device: torch.device, size: int = 4096) -> float:
    """Operations a second of square products, the best of three.

    Args:
        dtype (torch.dtype): Of the matrices.
        device (torch.device): Where they are.
        size (int): Their side; small ones do not reach the peak of bfloat16
            on CPUs, nor any on GPUs.
    """
    a, b = torch.rand(2, size, size, device=device).to(dtype)
    # several at once on a GPU, whose clock would count the launch of a single one
    times = 20 if a.is_cuda else 1

    def products() -> None:
        for _ in range(times):
            a @ b

    return times * 2 * size**3 / min(interleave({'': products}, 3)[''])


def peak_memory(way: Way, state: State = nullcontext) -> Optional[int]:
    """Bytes that a call needs at its highest point, above what was there.

    On a GPU what PyTorch hands out; elsewhere the resident memory of the
    process, as Linux counts it; None where it does not.

    Args:
        way (Callable): The call.
        state (Callable): Context manager that belongs to it: what that takes,
            e.g. weights in another precision, counts.
    """
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        with state():
            way()
        return torch.cuda.max_memory_allocated() - before
    trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)
    if trim is not None:  # what was freed but kept would hide the need
        trim(0)
    try:  # the high-water mark, see proc(5)
        Path('/proc/self/clear_refs').write_text('5')
    except OSError:
        return None
    before = _resident('VmRSS')
    with state():
        way()
    return max(0, _resident('VmHWM') - before)


def _resident(name: str) -> int:
    lines = Path('/proc/self/status').read_text().splitlines()
    line = next(line for line in lines if line.startswith(name))
    return int(line.split()[1]) * 1024
