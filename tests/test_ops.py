"""What stands in for MMCV's compiled operators."""

import math
import os
import subprocess
import sys
import warnings
from importlib.machinery import PathFinder

import mmdet.models  # noqa: F401
import numpy as np
import pytest
import torch
from tiny import ROOT

from mmdiffdet import ops, ops_finder

needs_compiled = pytest.mark.skipif(
    not ops_finder.compiled(), reason='MMCV was installed without compiled operators'
)


def boxes(num, spread=200, seed=0):
    """Boxes, and scores of which no two are equal."""
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(num, 2, generator=generator) * spread
    side = torch.rand(num, 2, generator=generator) * 60
    found = torch.cat([low, low + side], 1)
    if num > 4:
        found[1] = found[0]
        found[2, 2:] = found[2, :2]  # without area
        found[3] = found[2]
    return found, torch.randperm(num, generator=generator).float() / max(num, 1)


def greedy(found, scores, threshold, offset):
    """Box after box in float32, as the operator is defined."""
    area = [(x2 - x1 + offset) * (y2 - y1 + offset) for x1, y1, x2, y2 in found.numpy()]
    kept = []
    for i in scores.argsort(descending=True, stable=True).tolist():
        for j in kept:
            low = np.maximum(found[i, :2].numpy(), found[j, :2].numpy())
            high = np.minimum(found[i, 2:].numpy(), found[j, 2:].numpy())
            width, height = np.maximum(high - low + np.float32(offset), np.float32(0))
            with np.errstate(invalid='ignore'):
                if width * height / (area[i] + area[j] - width * height) > threshold:
                    break
        else:
            kept.append(i)
    return kept


@pytest.mark.parametrize('num', [0, 1, 7, 300, 700])
@pytest.mark.parametrize('threshold, offset', [(0.5, 0), (0.5, 1), (0.1, 0), (0.95, 0)])
def test_nms(num, threshold, offset):
    found, scores = boxes(num)
    assert ops.nms(found, scores, threshold, offset).tolist() == greedy(
        found, scores, threshold, offset
    )


def test_nms_of_equal_scores_keeps_the_first():
    found = torch.tensor([[0.0, 0, 10, 10]]).repeat(600, 1)
    found[300:] += 100
    assert ops.nms(found, torch.ones(600), 0.5).tolist() == [0, 300]


def test_a_chain_of_overlaps():
    """Each box is suppressed by the one before, if that one stays."""
    steps = torch.arange(400.0)[:, None] * torch.tensor([3.0, 0, 3, 0])
    chain = torch.tensor([0.0, 0, 10, 10]) + steps
    scores = torch.linspace(1, 0, 400)
    assert ops.nms(chain, scores, 0.5).tolist() == list(range(0, 400, 2))


@needs_compiled
@pytest.mark.parametrize('num, spread', [(0, 9), (500, 400), (3000, 800), (10000, 2000)])
def test_nms_is_that_of_mmcv(num, spread):
    import mmcv._ext

    found, scores = boxes(num, spread)
    for offset in (0, 1):
        expected = mmcv._ext.nms(found, scores, iou_threshold=0.5, offset=offset)
        assert torch.equal(ops.nms(found, scores, 0.5, offset), expected)


@needs_compiled
@pytest.mark.parametrize('method', [0, 1, 2])
@pytest.mark.parametrize('num', [0, 1, 200])
def test_soft_nms_is_that_of_mmcv(num, method):
    import mmcv._ext

    found, scores = boxes(num)
    found[2:4, 2:] += 5  # MMCV makes NaN of boxes without area
    results = []
    for function in (ops.softnms, mmcv._ext.softnms):
        dets = torch.zeros(num, 5)
        options = dict(iou_threshold=0.3, sigma=0.5, min_score=0.1, method=method, offset=0)
        index = function(found, scores, dets, **options)
        results.append((index, dets[: len(index)]))
    assert torch.equal(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1])


def test_soft_nms_by_hand():
    found = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [50, 50, 60, 60]])
    dets = torch.zeros(3, 5)
    index = ops.softnms(found, torch.tensor([0.9, 0.8, 0.3]), dets, 0.3, 0.5, 0.1, method=1)
    assert index.tolist() == [0, 1, 2]
    torch.testing.assert_close(dets[:, 4], torch.tensor([0.9, 0.4, 0.3]))
    index = ops.softnms(found, torch.tensor([0.9, 0.8, 0.3]), dets, 0.3, 0.5, 0.1, method=0)
    assert index.tolist() == [0, 2]
    assert torch.equal(dets[:2, :4], found[[0, 2]])
    index = ops.softnms(found, torch.tensor([0.9, 0.8, 0.3]), dets, 0.3, 0.5, 0.1, method=2)
    assert index.tolist() == [0, 1, 2]
    torch.testing.assert_close(dets[:, 4], torch.tensor([0.9, 0.8 * math.exp(-0.5), 0.3]))


def test_soft_nms_at_its_limits():
    """An IoU of the threshold costs nothing, a score of the least one stays."""
    found = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5]])  # IoU 0.5
    scores, dets = torch.tensor([0.75, 0.5]), torch.zeros(2, 5)
    for threshold, least, wanted in (
        (0.5, 0.1, [0.75, 0.5]),
        (0.25, 0.25, [0.75, 0.25]),
        (0.25, 0.26, [0.75]),
    ):
        index = ops.softnms(found, scores, dets, threshold, 0.5, least, method=1)
        assert dets[: len(index), 4].tolist() == wanted
    empty = torch.tensor([[3.0, 3, 3, 3]]).repeat(2, 1)  # overlap nothing, not even each other
    assert ops.softnms(empty, scores, dets, 0.3, 0.5, 0.1, method=0).tolist() == [0, 1]


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(aligned=False), 'other than square, aligned'),
        (dict(sampling_ratio=0), 'other than square, aligned'),
        (dict(aligned_width=3), 'other than square, aligned'),
        (dict(pool_mode=0), 'pool_mode max'),
    ],
)
def test_what_roi_align_does_not_do(change, message):
    options = dict(
        aligned_height=7,
        aligned_width=7,
        spatial_scale=0.25,
        sampling_ratio=2,
        pool_mode=1,
        aligned=True,
    )
    maps, rois = torch.zeros(1, 1, 8, 8), torch.zeros(1, 5)
    output = torch.zeros(1, 1, 7, 7)
    for ratio in (1, 2):
        options['sampling_ratio'] = ratio
        ops.roi_align_forward(maps, rois, output, None, None, **options)
    with pytest.raises(NotImplementedError, match=message):
        ops.roi_align_forward(maps, rois, output, None, None, **{**options, **change})


WITHOUT = """
import sys
from mmdiffdet.ops_finder import OperatorFinder, compiled
sys.meta_path.insert(0, OperatorFinder())  # before a compiled extension is found
import torch, mmdiffdet.engine
from mmcv.ops import DeformConv2d, RoIAlign, batched_nms, soft_nms
from tiny import batch, build, tiny_config, losses_of
assert not compiled()
torch.manual_seed(0)
maps = torch.randn(2, 4, 16, 16, requires_grad=True)
rois = torch.tensor([[0, 3.0, 4, 30, 40], [1, 0, 0, 60, 60], [1, 70, 70, 90, 90]])
align = RoIAlign(7, spatial_scale=0.25, sampling_ratio=2, aligned=True)
pooled = align(maps, rois)
assert pooled.shape == (3, 4, 7, 7) and not pooled[2].any() and pooled[0].any()
pooled.sum().backward()
assert abs(maps.grad.sum() - 2 * 4 * 49) < 1e-3
found = torch.tensor([[0, 0, 9, 9.0], [0, 0, 9, 8], [20, 20, 30, 30]])
dets, keep = batched_nms(
    found, torch.tensor([.5, .9, .7]), torch.zeros(3), dict(type='nms', iou_threshold=.5))
assert keep.tolist() == [1, 2]
assert soft_nms(found, torch.tensor([.5, .9, .7]))[1].tolist() == [1, 2, 0]
model = build(tiny_config())
data = batch()
assert sum(v for k, v in losses_of(model.train(), data).items() if 'loss' in k) > 0
with torch.no_grad():
    assert len(model.eval().test_step(data)[0].pred_instances) > 0
try:
    DeformConv2d(4, 4, 3)(torch.zeros(1, 4, 8, 8), torch.zeros(1, 18, 6, 6))
except NotImplementedError as error:
    assert 'deform_conv_forward needs the compiled operators of MMCV: pip' in str(error)
else:
    raise AssertionError
"""


def test_mmdetection_without_compiled_operators():
    path = os.pathsep.join([str(ROOT), str(ROOT / 'tests')])
    done = subprocess.run(
        [sys.executable, '-c', WITHOUT],
        env=dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=path),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_the_finder_answers_for_nothing_else():
    finder = ops_finder.OperatorFinder()
    assert finder.find_spec('mmcv.ops') is None
    assert finder.find_spec('mmcv._ext').origin == ops.__file__
    before = list(sys.meta_path)
    ops_finder.find_operators()  # once is enough
    assert sys.meta_path == before
    [place] = [i for i, f in enumerate(before) if isinstance(f, ops_finder.OperatorFinder)]
    assert place > before.index(PathFinder)  # a compiled extension is found first


def test_mmdetection_imported_before_is_told(monkeypatch):
    others = [f for f in sys.meta_path if not isinstance(f, ops_finder.OperatorFinder)]
    for spec in (object(), None):  # with compiled operators it does not matter
        monkeypatch.setattr(sys, 'meta_path', list(others))
        monkeypatch.setattr(ops_finder.importlib.util, 'find_spec', lambda name, s=spec: s)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter('always')
            ops_finder.find_operators()
        assert len(told) == (spec is None)
    assert 'import mmdiffdet first' in str(told[0].message)
    # the place that is told is the import of mmdiffdet, whose __init__ has called it
    monkeypatch.setattr(sys, 'meta_path', list(others))
    package = dict(find_operators=ops_finder.find_operators)
    exec(compile('def imported():\n    find_operators()', '__init__.py', 'exec'), package)
    with pytest.warns(UserWarning) as told:
        exec(compile('imported()', 'user.py', 'exec'), package)
    assert told[0].filename == 'user.py'
