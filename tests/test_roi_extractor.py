"""The gather against MMCV's RoIAlign."""

import pytest
import torch

from mmdiffdet.models.roi_gather import _Gather, _taps
from mmdiffdet.ops_finder import compiled
from mmdiffdet.registry import MODELS

STRIDES = [4, 8, 16, 32]


def extractors():
    common = dict(out_channels=8, featmap_strides=STRIDES)
    ours = MODELS.build(dict(type='GatherRoIExtractor', **common))
    theirs = MODELS.build(
        dict(
            type='mmdet.SingleRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=2),
            **common,
        )
    )
    return ours, theirs


def rois(kind):
    torch.manual_seed(1)
    low = torch.rand(40, 2) * 180 - 40
    side = torch.rand(40, 2) * 200
    if kind == 'tiny':
        side = side / 200
    elif kind == 'empty':
        side = torch.zeros(40, 2)
    elif kind == 'outside':
        low = low + 400
    elif kind == 'levels':  # sides at the borders between levels
        side = (
            torch.tensor([56.0, 111.9, 112.0, 112.1, 224.0, 448.0, 900.0, 5.0])
            .repeat(5)[:, None]
            .expand(-1, 2)
        )
    index = torch.randint(3, (40, 1)).float()
    return torch.cat([index, low, low + side], 1)


@pytest.mark.skipif(
    not compiled(), reason='RoIAlign of MMCV is not compiled; what stands in is the gather itself'
)
@pytest.mark.parametrize('kind', ['usual', 'tiny', 'empty', 'outside', 'levels'])
def test_equals_roialign_forward_and_backward(kind):
    ours, theirs = extractors()
    feats = [torch.randn(3, 8, 160 // s, 192 // s) for s in STRIDES]
    mine = [f.clone().requires_grad_() for f in feats]
    other = [f.clone().requires_grad_() for f in feats]
    weight = torch.randn(40, 8, 7, 7)
    found = ours(mine, rois(kind))
    expected = theirs(other, rois(kind))
    assert torch.allclose(found, expected, atol=1e-4)
    (found * weight).sum().backward()
    (expected * weight).sum().backward()
    for a, b in zip(mine, other):
        assert torch.allclose(a.grad, b.grad, atol=1e-4)


def test_table_and_boxes_are_the_same_as_maps_and_rois():
    ours, _ = extractors()
    feats = [torch.randn(3, 8, 160 // s, 192 // s) for s in STRIDES]
    table = ours.tabulate(feats)
    usual = rois('usual')
    assert torch.equal(ours(table, usual), ours(feats, usual))
    boxes = usual[:39, 1:].view(3, 13, 4)
    usual[:39, 0] = torch.arange(3).repeat_interleave(13)
    assert torch.equal(ours(table, boxes), ours(feats, usual[:39]))


def test_levels_are_those_of_the_formula():
    """To the last bit, around each border and elsewhere."""
    ours, _ = extractors()
    bits = ours._grid.areas.view(torch.int32)[:, None] + torch.arange(-5000, 5000)
    area = torch.cat([bits.int().view(torch.float32).flatten(), torch.rand(20000) * 1e6])
    boxes = torch.stack([area * 0, area * 0, torch.ones_like(area), area], 1)
    expected = (area.sqrt() / 56 + 1e-6).log2().floor().clamp(0, 3)
    assert expected.unique().tolist() == [0, 1, 2, 3]
    assert torch.equal(ours._levels(boxes, ours._grid.areas), expected.long())
    strange = torch.tensor([[9.0, 9, 0, 0], [0, float('nan'), 900, 900], [0, 0, 1e20, 1e20]])
    assert ours._levels(strange, ours._grid.areas).tolist()[::2] == [0, 3]


def test_nan_boxes_stay_nan():
    """So that the loss tells, not an index out of range."""
    ours, _ = extractors()
    feats = [torch.randn(1, 8, 160 // s, 192 // s) for s in STRIDES]
    boxes = torch.tensor([[0.0, float('nan'), 3.0, 9.0, 9.0]])
    assert ours(feats, boxes).isnan().any()


@pytest.mark.parametrize('dtype, tolerance', [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
def test_gradients_are_right_and_the_same_twice(dtype, tolerance):
    """Against PyTorch's own, in float64; in bfloat16 sums are longer."""
    ours, _ = extractors()
    feats = [torch.randn(3, 8, 160 // s, 192 // s) for s in STRIDES]
    table = ours.tabulate(feats)
    axes = ours._axes(table, rois('usual')[:39, 1:].view(3, 13, 4))
    index, weight = _taps(*axes)
    weight = weight.to(dtype)
    factor = torch.randn(len(index), 8).to(dtype)
    exact = table.rows.to(dtype).double().requires_grad_()
    pooled = torch.nn.functional.embedding_bag(
        index, exact, mode='sum', per_sample_weights=weight.double()
    )
    pooled.backward(factor.double())
    found = []
    for _ in range(2):
        rows = table.rows.clone().to(dtype).requires_grad_()
        pooled = _Gather.apply(rows, *axes)
        # not all taps: memory
        kept = pooled.grad_fn.saved_tensors
        assert sum(map(torch.numel, kept)) == sum(map(torch.numel, axes))
        pooled.backward(factor)
        found.append(rows.grad)
    assert torch.equal(*found)
    error = (found[0].double() - exact.grad).abs().max()
    assert error < tolerance * exact.grad.abs().max()


def test_no_rois():
    ours, _ = extractors()
    feats = [torch.randn(1, 8, 160 // s, 192 // s) for s in STRIDES]
    assert ours(feats, torch.zeros(0, 5)).shape == (0, 8, 7, 7)
