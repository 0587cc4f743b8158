"""RoI features by the Triton kernel, which Triton can run on a CPU as well."""

import os
import subprocess
import sys
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace

import pytest
import torch
from tiny import ROOT

from mmdiffdet.fast import roi_extractor
from mmdiffdet.fast.roi_extractor import FastRoIExtractor
from mmdiffdet.models import GatherRoIExtractor

STRIDES = [4, 8, 16, 32]


def table_and_boxes(extractor, channels, dtype=torch.float32):
    """Boxes of two images, of all levels, outside, empty, inverted and NaN.

    Also samples just a pixel outside of the finest map, of 40 x 48, which still
    count, and a box whose area is the first one of the second level.
    """
    generator = torch.Generator().manual_seed(0)
    feats = [
        torch.randn(2, channels, 160 // s, 192 // s, generator=generator).to(dtype) for s in STRIDES
    ]
    low = torch.rand(2, 9, 2, generator=generator) * 180 - 40
    side = torch.rand(2, 9, 2, generator=generator) * torch.logspace(0, 3, 9)[:, None]
    boxes = torch.cat([low, low + side], -1)
    boxes[0, 0] = float('nan')
    boxes[0, 1, 0] = float('nan')
    boxes[0, 2, 2:] = boxes[0, 2, :2]
    boxes[0, 3] = boxes[0, 3].flip(0)
    boxes[0, 4] += 400
    boxes[0, 5] = torch.tensor([0.0, 0, 112, 112])
    boxes[0, 6] = torch.tensor([2.0, 2, 190, 158])
    for place, corner in enumerate(([-2.0, 20], [194, 20], [20, -2], [20, 162])):
        boxes[1, place] = torch.tensor(corner * 2)
    boxes[1, 4] = torch.tensor([0.0, 0, 128, extractor._grid.areas[0] / 128])
    return extractor.tabulate(feats), boxes


def compare():
    """The kernel and the plain gather; in a process where Triton interprets."""
    from mmdiffdet.fast.roi_kernel import pool

    for bins, ratio, channels, dtype, tolerance in (
        (2, 2, 6, torch.float32, 1e-5),
        (1, 3, 5, torch.float32, 1e-5),
        (2, 1, 4, torch.bfloat16, 3e-2),
    ):
        extractor = GatherRoIExtractor(channels, STRIDES, bins, ratio)
        table, boxes = table_and_boxes(extractor, channels, dtype)
        expected = extractor.pool(table, boxes)
        found = pool(table, boxes, bins, 4 * ratio**2)
        assert found.dtype == dtype and expected.isnan().any() and (expected == 0).any()
        torch.testing.assert_close(found, expected, rtol=0, atol=tolerance, equal_nan=True)
        assert len(pool(table, boxes[:, :0], bins, 4 * ratio**2)) == 0


@pytest.mark.skipif(find_spec('triton') is None, reason='Triton is not installed')
def test_the_kernel_pools_as_the_plain_gather():
    paths = [str(ROOT), str(ROOT / 'tests'), *sys.path]
    done = subprocess.run(
        [sys.executable, '-c', 'import test_roi_kernel; test_roi_kernel.compare()'],
        env=dict(os.environ, TRITON_INTERPRET='1', PYTHONPATH=os.pathsep.join(paths)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='there is no CUDA device')
def test_the_kernel_on_a_gpu():
    pytest.importorskip('triton')
    extractor = FastRoIExtractor(256, STRIDES)
    table, boxes = table_and_boxes(GatherRoIExtractor(256, STRIDES), 256)
    expected = extractor.pool(table, boxes)
    table, _ = table_and_boxes(extractor, 256)
    feats = [torch.empty(2, 256, 160 // s, 192 // s, device='cuda') for s in STRIDES]
    on_gpu = extractor.tabulate(feats)
    on_gpu.rows = table.rows.cuda()
    found = extractor.pool(on_gpu, boxes.cuda())
    assert not FastRoIExtractor.failed
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=1e-4, equal_nan=True)


@pytest.mark.parametrize('learns', [False, True])
def test_when_the_kernel_is_used_and_what_if_it_fails(monkeypatch, learns):
    """Told once; never asked for gradients nor on CPUs."""
    calls = []

    def fails(*args):
        calls.append(args)
        raise RuntimeError('no C compiler')

    extractor = FastRoIExtractor(8, STRIDES)
    table, boxes = table_and_boxes(extractor, 8)
    monkeypatch.setattr(roi_extractor, '_kernel', lambda: fails)
    expected = extractor(table, boxes)
    assert not calls
    rows = table.rows.requires_grad_(learns)

    class Cuda:
        is_cuda, requires_grad = True, rows.requires_grad

    wanted = roi_extractor._is_wanted
    monkeypatch.setattr(roi_extractor, '_is_wanted', lambda _: wanted(Cuda))
    monkeypatch.setattr(FastRoIExtractor, 'failed', False)
    warnings = []
    logger = type('Logger', (), dict(warning=lambda self, text: warnings.append(text)))()
    monkeypatch.setattr(roi_extractor.MMLogger, 'get_current_instance', lambda: logger)
    for _ in range(2):
        assert torch.equal(extractor(table, boxes).nan_to_num(), expected.nan_to_num())
    assert len(calls) == len(warnings) == (not learns)
    assert learns or 'no C compiler' in warnings[0]


class Pointer:
    """A place in a tensor's memory, to which Triton adds numbers of elements."""

    def __init__(self, tensor, place=None):
        self.tensor = tensor
        self.place = tensor.storage_offset() if place is None else place
        self.dtype = SimpleNamespace(element_ty=tensor.dtype)

    def __add__(self, number):
        return Pointer(self.tensor, self.place + number)

    def memory(self):
        """All of it, as one row, whatever the tensor's strides."""
        return self.tensor.new_empty(0).set_(self.tensor.untyped_storage())


class Program:
    """A function that runs once for each place of a grid, or is called by another."""

    number = 0

    def __init__(self, function):
        self.function = function

    def __call__(self, *args):
        return self.function(*args)

    def __getitem__(self, grid):
        def launch(*args, **constants):
            args = [Pointer(x) if isinstance(x, torch.Tensor) else x for x in args]
            for Program.number in range(grid[0]):
                self.function(*args, **constants)

        return launch


def load(pointer, mask=None, other=None):
    place = torch.as_tensor(pointer.place)
    if mask is None:
        return pointer.memory()[place]
    return torch.where(mask, pointer.memory()[place * mask], other)


def store(pointer, value, mask):
    pointer.memory()[pointer.place[mask]] = value[mask]


def test_the_kernel_by_what_triton_says_of_its_operators(monkeypatch):
    """One bin after the other on the CPU, also where Triton is not installed."""
    language = ModuleType('triton.language')
    vars(language).update(
        load=load,
        store=store,
        program_id=lambda axis: torch.tensor((Program.number,)[axis]),
        arange=torch.arange,
        zeros=torch.zeros,
        floor=torch.floor,
        where=torch.where,
        minimum=lambda a, b: torch.minimum(torch.as_tensor(a), torch.as_tensor(b)),
        maximum=lambda a, b: torch.maximum(torch.as_tensor(a), torch.as_tensor(b)),
        constexpr=int,
        int32=torch.int32,
        int64=torch.int64,
        float32=torch.float32,
    )
    triton = ModuleType('triton')
    triton.language, triton.jit = language, Program
    triton.next_power_of_2 = lambda number: 2 ** (number - 1).bit_length()
    for name, module in (('triton', triton), ('triton.language', language)):
        monkeypatch.setitem(sys.modules, name, module)
    kernel = 'mmdiffdet.fast.roi_kernel'
    before = sys.modules.pop(kernel, None)
    try:
        compare()
    finally:  # nobody else's kernel
        sys.modules.pop(kernel)
        if before is not None:
            sys.modules[kernel] = before
