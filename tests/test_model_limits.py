"""Losses, models and their faster forms at the edges of their cases."""

from contextlib import contextmanager

import pytest
import torch
from mmengine.structures import InstanceData
from test_losses import SIZE, criterion, output
from test_tta import tta_model, views
from tiny import batch, build, tiny_config

from mmdiffdet.fast import accelerated, groups, self_attention
from mmdiffdet.fast.groups import in_groups
from mmdiffdet.losses import DynamicKAssigner, FederatedClasses, PaddedObjects, TopologyLoss
from mmdiffdet.models import SelfAttention
from mmdiffdet.models.checks import logged
from mmdiffdet.models.passes import passes
from mmdiffdet.models.roi_gather import GatherRoIExtractor
from mmdiffdet.registry import MODELS

# ---- losses -------------------------------------------------------------------


@pytest.mark.parametrize(
    'weight, ok', [(0, True), (0.0, True), (True, False), (float('nan'), False)]
)
def test_weights_that_a_loss_may_have(weight, ok):
    for name in ('loss_cls', 'loss_bbox', 'loss_iou'):
        if ok:
            criterion(**{name: dict(loss_weight=weight)})
        else:
            with pytest.raises(ValueError, match=f'{name}.loss_weight must be >= 0'):
                criterion(**{name: dict(loss_weight=weight)})


def test_ends_of_the_options_of_losses():
    for alpha in (0.0, 1.0):
        assert DynamicKAssigner(alpha=alpha).alpha == alpha
    for alpha in (-0.1, 1.1):
        with pytest.raises(ValueError, match='alpha must be in'):
            DynamicKAssigner(alpha=alpha)
    assert FederatedClasses(num_sampled=1, power=0.0).power == 0
    with pytest.raises(ValueError, match='power'):
        FederatedClasses(power=-0.1)


def test_one_matched_proposal_is_the_divisor():
    """5 times the L1 distance of the normalised boxes, 2 times 1 - GIoU."""
    found = output(num=1, stages=1)
    found.boxes = torch.tensor([[[[10.0, 10, 50, 40]]]], requires_grad=True)
    gt = InstanceData(bboxes=torch.tensor([[10.0, 10, 50, 60]]), labels=torch.tensor([2]))
    losses = criterion()(found, [gt], SIZE)
    torch.testing.assert_close(losses['loss_bbox'], torch.tensor(5 * 20 / 96))
    torch.testing.assert_close(losses['loss_giou'], torch.tensor(2 * (1 - 0.6)))


def test_giou_of_half_precision_is_mmdetections():
    """Areas of large boxes are beyond float16."""
    pred = torch.tensor([[0.0, 0, 400, 400], [10, 10, 300, 500]]).half()
    target = torch.tensor([[0.0, 0, 400, 300], [0, 0, 300, 500]]).half()
    ours, theirs = (MODELS.build(dict(type=f'{scope}GIoULoss')) for scope in ('', 'mmdet.'))
    options = dict(reduction_override='none')
    found = ours(pred, target, **options)
    torch.testing.assert_close(found, theirs(pred, target, **options), equal_nan=True)


@pytest.mark.parametrize('iou_thr, expected', [(0.49, 0.0), (0.5, 1.0)])
def test_neighbours_overlap_by_more_than_the_threshold(iou_thr, expected):
    """Two objects of IoU 1/2, whose proposals attend to each other."""
    boxes = torch.tensor([[0.0, 0, 8, 8], [0, 0, 8, 4]])
    objects = PaddedObjects.pad([InstanceData(bboxes=boxes, labels=torch.zeros(2).long())])
    attention = torch.tensor([[[0.0, 1], [1, 0]]])
    loss = TopologyLoss(iou_thr=iou_thr)(
        attention, boxes[None], torch.tensor([[0, 1]]), None, objects
    )
    assert loss == expected


# ---- models -------------------------------------------------------------------


def test_images_of_one_padded_shape_go_together():
    """Sides of 64 and 60 are padded to 64, of 65 to 96."""
    sizes = [(64, 96), (60, 65), (65, 96), (33, 66), (64, 64), (64, 90)]
    images = [torch.zeros(3, *size) for size in sizes]
    assert passes(images, 32, 2) == [[0, 1], [3, 5], [2], [4]]
    assert passes(images, 32, 1) == [[0], [1], [3], [5], [2], [4]]
    assert passes(images, 1, 9) == [[i] for i in range(6)]
    assert passes([], 32, 1) == []


def test_logs_of_losses_that_are_not_finite():
    nan = torch.tensor(float('nan'))
    with pytest.raises(FloatingPointError, match='loss_a, loss: not finite'):
        logged(dict(loss_a=nan, loss=nan))
    assert logged(dict(loss_a=nan, loss=nan), finite=False)['loss'].isnan()
    fine = logged(dict(ratio=nan, loss=torch.tensor(2.0)))  # what is only logged stops nothing
    assert fine['loss'] == 2 and fine['ratio'].isnan()


def test_all_stages_may_be_repeated():
    assert build(tiny_config(sampler=dict(repeated_stages=2))).sampler.repeated_stages == 2
    model = build(tiny_config(sampler=dict(stages_per_step=[2, 1], repeated_stages=1)))
    assert model.sampler.stages_per_step == [2, 1]
    for options in (dict(repeated_stages=3), dict(stages_per_step=[2, 1], repeated_stages=2)):
        with pytest.raises(ValueError, match='repeated_stages is'):
            build(tiny_config(sampler=options))


@pytest.mark.parametrize('parts', [[], ['d3pm']])
def test_one_pass_is_over_whole_images_without_noise(parts):
    model = build(tiny_config(parts)).eval()
    seen = []
    model.bbox_head.register_forward_pre_hook(lambda head, args: seen.append(args[1:]))
    logits, boxes = model(torch.zeros(2, 3, 64, 96), mode='tensor')
    assert logits.shape == (2, 2, 12, 3) and boxes.shape == (2, 2, 12, 4)
    [(given, t, state)] = seen
    assert torch.equal(given, torch.tensor([0.0, 0, 96, 64]).expand(2, 12, 4))
    assert t.tolist() == [0, 0]
    if parts:
        assert torch.equal(state, model.label_scheduler.prior(2, 12))
    else:
        assert state is None


def test_matrices_start_from_xaviers_distribution():
    """Uniform up to sqrt(6 / (in + out)); PyTorch's own end before, at 1 / sqrt(in)."""
    stage = build(tiny_config()).bbox_head.head_series[1]
    for layer, sides in ((stage.linear1, 16 + 32), (stage.inst_interact.dynamic_layer, 16 + 256)):
        bound = (6 / sides) ** 0.5
        assert 0.97 * bound < layer.weight.abs().max() <= bound
    prior = torch.full((3,), 0.01)
    torch.testing.assert_close(stage.class_logits.bias.sigmoid(), prior)


def test_the_time_of_views_is_that_of_an_image():
    counts = []

    @contextmanager
    def measure(name, count):
        counts.append((name, count))
        yield

    model = build(tiny_config()).eval()
    with torch.no_grad():
        tta_model(model).test_variants(views(batch(), 4), [model.default_variant], measure)
    assert sum(count for name, count in counts if name == 'features') == 2
    assert sum(count for name, count in counts if name == 0) == 2


# ---- RoI features -------------------------------------------------------------


def bilinear(plane, y, x):
    """A sample of a map; more than a pixel outside it is 0 (RoIAlign)."""
    height, width = plane.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    total = 0.0
    for row in (int(y), int(y) + 1):
        for column in (int(x), int(x) + 1):
            share = max(0.0, 1 - abs(y - row)) * max(0.0, 1 - abs(x - column))
            if share:
                total += share * float(plane[row, column])
    return total


def roi_align(maps, strides, image, box, bins, ratio, finest):
    """One RoI by the definition, from the level that its area belongs to."""
    x1, y1, x2, y2 = box.tolist()
    area = max(x2 - x1, 0) * max(y2 - y1, 0)
    level = sum(area >= (finest * 2**k) ** 2 for k in range(1, len(strides)))
    plane, stride = maps[level][image, 0], strides[level]
    low_x, low_y = x1 / stride - 0.5, y1 / stride - 0.5
    side_x, side_y = (x2 - x1) / stride / bins, (y2 - y1) / stride / bins
    found = torch.zeros(bins, bins)
    for i in range(bins):
        for j in range(bins):
            for k in range(ratio):
                for m in range(ratio):
                    y = low_y + (i + (k + 0.5) / ratio) * side_y
                    x = low_x + (j + (m + 0.5) / ratio) * side_x
                    found[i, j] += bilinear(plane, y, x) / ratio**2
    return found


@pytest.mark.parametrize('bins, ratio', [(2, 2), (3, 1), (1, 3)])
def test_rois_are_pooled_by_the_definition(bins, ratio):
    """Of two images and three levels, over every border, higher than wide."""
    torch.manual_seed(0)
    strides = [2, 4, 8]
    maps = [torch.randn(2, 1, 48 // s, 32 // s) for s in strides]
    boxes = torch.tensor(
        [
            [[3.3, 5.1, 9.9, 17.2], [-6, -9, 12, 20], [1, 1, 30, 47], [28, 40, 39, 60]],
            [[0, 0, 32, 48], [10, 30, 33, 50], [4, 4, 12, 12], [5, 5, 5, 9]],
        ]
    )
    extractor = GatherRoIExtractor(1, strides, bins, ratio, finest_scale=8)
    found = extractor(maps, boxes)[:, 0]
    expected = [
        roi_align(maps, strides, i, box, bins, ratio, 8)
        for i, image in enumerate(boxes)
        for box in image
    ]
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-5, rtol=0)


# ---- faster forms -------------------------------------------------------------


def test_rows_that_are_larger_than_a_group_go_one_by_one(monkeypatch):
    monkeypatch.setattr(groups, 'GROUP_BYTES', 100)
    for row_bytes, expected in ((101, [1] * 5), (100, [1] * 5), (50, [2, 2, 1]), (34, [2, 2, 1])):
        sizes = []

        def double(x, y, sizes=sizes):
            sizes.append(len(x))
            assert y is None
            return 2 * x

        x = torch.arange(5)
        assert torch.equal(in_groups(double, row_bytes, x, None), 2 * x)
        assert sizes == expected


def test_groups_of_images_are_as_large_as_their_attention(monkeypatch):
    """Heads x proposals x proposals numbers; with gradients there are no groups."""
    seen = []

    def spy(function, row_bytes, *inputs):
        seen.append((row_bytes, [x is not None and len(x) for x in inputs]))
        return in_groups(function, row_bytes, *inputs)

    monkeypatch.setattr(self_attention, 'in_groups', spy)
    attention = SelfAttention(16, num_heads=4)
    features = torch.randn(3, 7, 16)
    with accelerated(attention):
        attention(features)
        with torch.no_grad():
            assert attention(features, need_weights=True)[1].shape == (3, 7, 7)
            assert not seen
            attention(features)
            attention(features.double().float(), bias=torch.zeros(7, 7))
    assert seen == [(4 * 7 * 7 * 4, [3, 3, 3, False]), (4 * 7 * 7 * 4, [3, 3, 3, 3])]
