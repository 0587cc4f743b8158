"""Criterion and single losses."""

from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData
from tiny import Operators, tiny_config

from mmdiffdet.losses import (
    FederatedClasses,
    PaddedObjects,
    QualityLoss,
    TopologyLoss,
)
from mmdiffdet.losses.assigner import assign
from mmdiffdet.losses.boxes import box_overlaps
from mmdiffdet.models import HeadOutput
from mmdiffdet.registry import MODELS

META = dict(img_shape=(96, 128))
SIZE = torch.tensor([[96.0, 128.0]])


def objects(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 2, generator=generator) * 50
    side = torch.rand(count, 2, generator=generator) * 40 + 5
    return InstanceData(
        bboxes=torch.cat([low, low + side], 1),
        labels=torch.randint(3, (count,), generator=generator),
    )


def criterion(parts=(), **changes):
    return MODELS.build(dict(tiny_config(parts, criterion=changes).criterion, num_classes=3))


def output(num=12, stages=2, images=1, seed=1, quality=True):
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(stages, images, num, 2, generator=generator) * 60
    side = torch.rand(stages, images, num, 2, generator=generator) * 40
    logits = torch.randn(stages, images, num, 3, generator=generator)
    boxes = torch.cat([low, low + side], -1)
    extras = dict(quality=torch.zeros(stages, images, num))
    return HeadOutput(
        logits.requires_grad_(), boxes.requires_grad_(), extras if quality else {}, modulated=None
    )


@pytest.mark.parametrize(
    'options',
    [{}, *(dict(parts=[part]) for part in ('qfl', 'quality', 'topo'))],
)
def test_no_object_at_all(options):
    loss = criterion(**options)
    found = output(images=2)
    found.attention = torch.full((2, 12, 12), 1 / 12)
    losses = loss(found, [objects(0), objects(0)], SIZE.expand(2, 2))
    total = sum(losses.values())
    assert total.isfinite()
    total.backward()
    assert found.logits.grad.isfinite().all()
    assert found.boxes.grad is None or found.boxes.grad.isfinite().all()


def test_iou_weight_leaves_the_divisor():
    gt = [objects(3)]
    found = output()
    plain = criterion()(found, gt, SIZE)
    weighted = criterion(iou_weight_power=1.0)(found, gt, SIZE)
    assert weighted['loss_bbox'] < plain['loss_bbox']
    assert torch.equal(weighted['loss_cls'], plain['loss_cls'])


def test_quality_loss_needs_the_head():
    with pytest.raises(ValueError, match='QualityHead'):
        criterion(['quality'])(output(quality=False), [objects(2)], SIZE)


@pytest.mark.parametrize('name', ['loss_cls', 'loss_bbox', 'loss_iou'])
def test_negative_weight(name):
    with pytest.raises(ValueError, match=name):
        criterion(**{name: dict(loss_weight=-1.0)})


@pytest.mark.parametrize(
    'build, valid',
    [
        (lambda: QualityLoss('huber'), "'bce', 'l1', 'mse'"),
        (lambda: TopologyLoss(norm='column'), "'row', 'none'"),
        (lambda: QualityLoss(loss_weight=-1), 'loss_weight'),
        (lambda: TopologyLoss(loss_weight=-1), 'loss_weight'),
        (lambda: FederatedClasses([-1.0, 2.0]), 'class_frequency'),
        (lambda: FederatedClasses(torch.zeros(3)), 'not all zero'),
        (lambda: FederatedClasses(num_sampled=0), 'num_sampled'),
    ],
)
def test_unknown_names_list_the_valid(build, valid):
    with pytest.raises(ValueError, match=valid):
        build()


def test_topology_of_equal_matrices_is_zero():
    """Objects that overlap, whose proposals attend to each other alone."""
    objects = PaddedObjects.pad(
        [
            InstanceData(
                bboxes=torch.tensor(
                    [[0.0, 0.0, 10.0, 10.0], [2.0, 0.0, 12.0, 10.0], [50.0, 50.0, 60.0, 60.0]]
                ),
                labels=torch.zeros(3, dtype=torch.long),
            )
        ]
    )
    attention = torch.zeros(1, 5, 5)
    attention[0, 1, 2] = attention[0, 2, 1] = 0.3
    attention[0, 4] = 9.0  # the dearer one of the last object's proposals
    index = torch.tensor([[-1, 0, 1, 2, 2]])
    cost = torch.ones(1, 3, 5)
    cost[0, 2, 4] = 2

    def loss(cost=cost, **options):
        boxes = torch.cat(
            [objects.boxes[0, [0, 0, 1, 2]], torch.tensor([[55.0, 50.0, 65.0, 60.0]])]
        )[None]
        return TopologyLoss(**options)(attention, boxes, index, cost, objects)

    assert loss() == 0
    assert loss(None) == 0  # the nearest one without a cost
    # one entry of 0.1: its row is normalised to 1, six ordered pairs
    attention[0, 3, 1] = 0.1
    torch.testing.assert_close(loss(), torch.tensor(1 / 6))
    torch.testing.assert_close(loss(norm='none'), torch.tensor((2 * 0.7**2 + 0.1**2) / 6))
    # nothing overlaps by that much: the target is empty
    torch.testing.assert_close(loss(iou_thr=0.9), torch.tensor(3 / 6))
    torch.testing.assert_close(loss(loss_weight=0.5), torch.tensor(0.5 / 6))


def test_topology_leaves_out_objects_without_a_proposal():
    """And an image with fewer than two that have one."""
    gt = [objects(3), objects(2), objects(0)]
    index = torch.tensor([[0, -1, 2, -1], [1, -1, -1, 1], [-1] * 4])
    attention = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0))
    value = TopologyLoss(norm='none', iou_thr=1.0)(
        attention, torch.zeros(3, 4, 4), index, None, PaddedObjects.pad(gt)
    )
    torch.testing.assert_close(value, (attention[0, 0, 2] ** 2 + attention[0, 2, 0] ** 2) / 2)


def chosen(classes, counts):
    return sorted(classes[counts].tolist())


def test_federated_classes():
    labels = torch.tensor([[3, 90, -1], [3, -1, -1]])
    found = chosen(*FederatedClasses([1.0] * 100, num_sampled=10)(labels, 100))
    assert len(set(found)) == 10
    assert {3, 90} <= set(found)
    # classes that never occur are not drawn, whatever the power
    for power in (0.0, 0.5):
        rare = FederatedClasses([0.0] * 95 + [1.0] * 5, 10, power)
        assert chosen(*rare(labels[:, :1], 100)) == [3, 95, 96, 97, 98, 99]
    # no object at all, and more classes than may be drawn
    assert len(chosen(*FederatedClasses([1.0] * 9, 4)(torch.tensor([[-1]]), 9))) == 4
    many = torch.arange(8)[None]
    assert chosen(*FederatedClasses([1.0] * 9, 4)(many, 9)) == list(range(8))


def test_federated_classes_by_their_frequency():
    """Two draws of four classes, the weights in proportion 1 : 2 : 3 : 4."""
    draw = FederatedClasses([1.0, 4.0, 9.0, 16.0], num_sampled=1)
    torch.manual_seed(0)
    counts = torch.zeros(4)
    for _ in range(2000):
        torch.rand(1)
        counts[chosen(*draw(torch.tensor([[-1]]), 4))] += 1
    torch.testing.assert_close(counts / 2000, torch.tensor([0.1, 0.2, 0.3, 0.4]), atol=0.03, rtol=0)


def test_federated_loss_ignores_other_classes():
    loss = criterion(
        federated=dict(type='FederatedClasses', class_frequency=[1, 0, 0], num_sampled=1)
    )
    gt = InstanceData(bboxes=torch.tensor([[10.0, 10.0, 40.0, 40.0]]), labels=torch.tensor([1]))
    found = output()
    sum(loss(found, [gt], SIZE).values()).backward()
    assert found.logits.grad[..., 1].abs().sum() > 0
    assert found.logits.grad[..., [0, 2]].abs().sum() == 0


@pytest.mark.parametrize(
    'frequency, message',
    [([1.0, 2.0], '2 class frequencies for 3 classes'), (None, 'FederatedFrequencyHook')],
)
def test_federated_frequency_errors(frequency, message):
    with pytest.raises(ValueError, match=message):
        FederatedClasses(frequency)(torch.tensor([[0]]), 3)


def test_overlaps_are_mmdetections():
    a, b = (output(seed=seed).boxes[0, 0].detach() for seed in (1, 2))
    a[0] = b[0] = torch.tensor([5.0, 5.0, 5.0, 5.0])  # without area
    for mode, found in zip(('iou', 'giou'), box_overlaps(a[:, None], b[None])):
        assert torch.equal(found, bbox_overlaps(a, b, mode))


@pytest.mark.parametrize('name', ['GIoULoss', 'QualityFocalLoss'])
def test_values_and_reductions_are_mmdetections(name):
    ours, theirs = (
        MODELS.build(dict(type=scope + name, loss_weight=3.0)) for scope in ('', 'mmdet.')
    )
    found = output()
    weight = torch.linspace(0, 1, 12)
    if name == 'GIoULoss':
        pred, target = found.boxes[:, 0].detach()
        theirs_target = target
    else:
        pred = found.logits[0, 0].detach()
        labels, score = torch.arange(12) % 4, torch.linspace(0.1, 1, 12)
        target = torch.nn.functional.one_hot(labels, 4)[:, :3] * score[:, None]
        theirs_target = (labels, score)
    for options in (
        dict(),
        dict(avg_factor=7.0),
        dict(reduction_override='sum'),
        dict(reduction_override='none'),
    ):
        expected = theirs(pred, theirs_target, weight, **options)
        if name != 'GIoULoss':  # a value a class, and the mean is over all
            value = ours(pred, target, weight[:, None], **options)
            value = value.sum(-1) if value.dim() else value * (3 if not options else 1)
        else:
            value = ours(pred, target, weight, **options)
            # without weights by code of ours
            torch.testing.assert_close(
                ours(pred, target, **options), theirs(pred, target, **options)
            )
        torch.testing.assert_close(value, expected)


def random_batch(counts, stages=3, num=12):
    found = output(num=num, stages=stages, images=len(counts))
    found.extras['quality'] = torch.randn(
        stages, len(counts), num, generator=torch.Generator().manual_seed(5)
    ).requires_grad_()
    return found, [objects(count, i) for i, count in enumerate(counts)]


OPTIONS = [
    {},
    dict(parts=['qfl'], iou_weight_power=1.0),
    dict(parts=['quality']),
    dict(parts=['quality'], loss_quality=dict(loss_type='l1')),
]


@pytest.mark.parametrize('options', OPTIONS)
def test_a_batch_has_the_losses_of_its_images(options):
    """Stage by stage, image by image, over gathered pairs in float64."""
    found, gt = random_batch([0, 1, 5, 30])
    loss, parts = criterion(**options), options.get('parts', ())
    losses = loss(found, gt, SIZE.expand(4, 2))
    sum(losses.values()).backward()
    inputs = [found.logits, found.boxes, found.extras['quality']]
    gradients = [x.grad for x in inputs]
    index = assign(
        loss.assigner, found.logits, found.boxes, PaddedObjects.pad(gt), SIZE.expand(4, 2)
    ).index
    again = [x.detach().double().requires_grad_() for x in inputs]
    total = 0
    for s in range(3):
        count = int((index[s] >= 0).sum())
        sums = dict.fromkeys(('cls', 'bbox', 'giou', 'quality'), 0.0)
        for i, truth in enumerate(gt):
            logits, boxes, quality = (x[s, i] for x in again)
            matched = (index[s, i] >= 0).nonzero()[:, 0]
            of = index[s, i][matched]
            target = truth.bboxes[of].double()
            mine = boxes[matched]
            iou = bbox_overlaps(mine.detach(), target, is_aligned=True)
            one_hot = torch.zeros_like(logits)
            one_hot[matched, truth.labels[of]] = 1.0
            p = logits.sigmoid()
            if 'qfl' in parts:
                one_hot[matched, truth.labels[of]] = iou
                weight = (one_hot - p).abs() ** 2
            else:
                weight = torch.where(one_hot > 0, 0.25 * (1 - p) ** 2, 0.75 * p**2)
            sums['cls'] += (
                2
                * (
                    weight * F.binary_cross_entropy_with_logits(logits, one_hot, reduction='none')
                ).sum()
            )
            power = (iou + 1e-3) ** options.get('iou_weight_power', 0.0)
            scale = torch.tensor([128.0, 96.0, 128.0, 96.0]).double()
            sums['bbox'] += 5 * (((mine - target) / scale).abs().sum(-1) * power).sum()
            giou = bbox_overlaps(mine, target, 'giou', is_aligned=True)
            sums['giou'] += 2 * ((1 - giou) * power).sum()
            if 'loss_quality' in options:
                sums['quality'] += (quality[matched].sigmoid() - iou).abs().sum()
            else:
                sums['quality'] += F.binary_cross_entropy_with_logits(
                    quality[matched], iou, reduction='sum'
                )
        if 'quality' not in parts:
            del sums['quality']
        for name, value in sums.items():
            key = ('' if s == 2 else f's{s}.') + f'loss_{name}'
            torch.testing.assert_close(losses.pop(key).double(), value / count, rtol=1e-6, atol=0)
            total = total + value / count
    assert not losses
    total.backward()
    for mine, theirs in zip(gradients, again):
        if theirs.grad is None:
            assert mine is None
            continue
        torch.testing.assert_close(
            mine.double(), theirs.grad, rtol=1e-5, atol=1e-5 * float(theirs.grad.abs().max())
        )


WAITS = {
    '_local_scalar_dense',
    'item',
    'is_nonzero',
    'equal',
    'nonzero',
    'masked_select',
    'masked_index',
    '_unique2',
    'unique_dim',
    'unique_consecutive',
    'bincount',
    'repeat_interleave',
    'lift_fresh',
    '_assert_async',
}
"""What makes the host wait for a GPU, or copies a constant to one."""


@pytest.mark.parametrize(
    'options', [*OPTIONS, dict(parts=['topo']), dict(federated=dict(type='FederatedClasses'))]
)
def test_no_value_is_read_and_no_size_depends_on_data(options):
    """The same operators whatever the batch, none of which waits."""
    calls = []
    for counts in ([2], [0, 0, 0], [7, 30, 1, 0, 4]):
        found, gt = random_batch(counts)
        found.attention = torch.rand(len(counts), 12, 12)
        loss = criterion(**options)
        if loss.federated is not None:
            loss.federated.class_frequency = [1.0, 2.0, 3.0]
        sizes = SIZE.expand(len(counts), 2).clone()
        loss(found, gt, sizes)  # whatever is made once
        padded = PaddedObjects.pad(gt)
        with (
            patch.object(PaddedObjects, 'pad', lambda gt, p=padded: p),
            patch(
                'mmdiffdet.losses.federated.side_generator', lambda name: torch.default_generator
            ),
            Operators() as operators,
        ):
            sum(loss(found, gt, sizes).values()).backward()
        assert not WAITS & set(operators.calls), operators.calls
        calls.append(sum(operators.calls.values()))
    assert len(set(calls)) == 1, calls


def test_nothing_leaves_the_device():
    """On the meta device no value can be read, and no CPU tensor be met."""
    found, gt = random_batch([3, 0, 5])
    found.attention = torch.rand(3, 12, 12)
    for name in ('logits', 'boxes', 'attention'):
        setattr(found, name, getattr(found, name).detach().to('meta'))
    found.extras = {k: v.detach().to('meta') for k, v in found.extras.items()}
    losses = criterion(['quality', 'topo']).to('meta')(
        found, [g.to('meta') for g in gt], SIZE.expand(3, 2).to('meta')
    )
    assert {v.device.type for v in losses.values()} == {'meta'}


def test_topology_is_divided_by_the_pairs_of_all_processes():
    gt = PaddedObjects.pad([objects(3)])
    args = (torch.rand(1, 4, 4), torch.zeros(1, 4, 4), torch.tensor([[0, 1, 2, -1]]), None, gt)
    alone = TopologyLoss()(*args)
    # beside a process without a pair the mean count is half as large
    with patch('mmdiffdet.losses.topology_loss.reduce_mean', lambda count: count / 2):
        torch.testing.assert_close(TopologyLoss()(*args), 2 * alone)


@pytest.mark.parametrize('kind, expected', [('bce', None), ('l1', 0.15), ('mse', 0.0325)])
def test_quality_loss_by_hand(kind, expected):
    logits = torch.tensor([0.5, 0.8]).logit()
    iou = torch.tensor([0.25, 0.85])
    if kind == 'bce':
        expected = -(
            iou * torch.tensor([0.5, 0.8]).log() + (1 - iou) * torch.tensor([0.5, 0.2]).log()
        ).mean()
    found = QualityLoss(kind, loss_weight=2.0)(logits, iou)
    torch.testing.assert_close(found, 2 * torch.as_tensor(expected))


@pytest.mark.parametrize('options', [dict(beta=1.0), dict(beta=3.0), dict(activated=True)])
def test_quality_focal_loss_of_dense_targets_is_mmdetections(options):
    pred = output().logits[0, 0].detach()
    if 'activated' in options:
        pred = pred.sigmoid()
    target = torch.rand(12, 3, generator=torch.Generator().manual_seed(0)) * (pred > 0.3)
    ours, theirs = (
        MODELS.build(dict(type=f'{scope}QualityFocalLoss', **options)) for scope in ('', 'mmdet.')
    )
    found = ours(pred, target, reduction_override='sum')
    torch.testing.assert_close(found, theirs(pred, target, reduction_override='sum'))


def test_eps_of_giou_is_the_smallest_area():
    box = torch.tensor([[0.0, 0, 1e-3, 1e-3]])
    losses = [MODELS.build(dict(type='GIoULoss', eps=eps))(box, box) for eps in (1e-6, 1e-4)]
    torch.testing.assert_close(torch.stack(losses), torch.tensor([0.0, 0.99]))


def test_frequencies_can_be_set_anew():
    draw = FederatedClasses([1, 0, 0], num_sampled=1)
    none = torch.tensor([[-1]])
    assert chosen(*draw(none, 3)) == [0]
    draw.class_frequency = [0, 0, 1]
    assert chosen(*draw(none, 3)) == [2]
    with pytest.raises(ValueError, match='not all zero'):
        draw.class_frequency = [1.0, float('nan')]
