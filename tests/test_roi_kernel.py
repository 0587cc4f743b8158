"""RoI features by the Triton kernel, which Triton can run on a CPU as well."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch
from tiny import ROOT

from mmdiffdet.fast import roi_extractor
from mmdiffdet.fast.roi_extractor import FastRoIExtractor
from mmdiffdet.models import GatherRoIExtractor

STRIDES = [4, 8, 16, 32]


def table_and_boxes(extractor, channels, dtype=torch.float32):
    """Boxes of two images, of all levels, outside, empty, inverted and NaN."""
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
