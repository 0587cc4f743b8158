"""Matcher, criterion and single losses."""
import pytest
import torch
from mmengine.structures import InstanceData
from tiny import tiny_config

from mmdiffdet.losses import FederatedClasses, QualityLoss, TopologyLoss
from mmdiffdet.losses.matcher import Match
from mmdiffdet.models import HeadOutput
from mmdiffdet.registry import MODELS, TASK_UTILS

META = dict(img_shape=(96, 128))


def objects(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 2, generator=generator) * 50
    side = torch.rand(count, 2, generator=generator) * 40 + 5
    return InstanceData(
        bboxes=torch.cat([low, low + side], 1),
        labels=torch.randint(3, (count, ), generator=generator))


def matcher():
    return TASK_UTILS.build(tiny_config().criterion.matcher)


def criterion(**options):
    return MODELS.build(tiny_config(**options).criterion)


def output(num=12, stages=2, images=1, seed=1, quality=True):
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(stages, images, num, 2, generator=generator) * 60
    side = torch.rand(stages, images, num, 2, generator=generator) * 40
    logits = torch.randn(stages, images, num, 3, generator=generator)
    boxes = torch.cat([low, low + side], -1)
    extras = dict(quality=torch.zeros(stages, images, num))
    return HeadOutput(logits.requires_grad_(), boxes.requires_grad_(),
                      extras if quality else {}, modulated=None)


@pytest.mark.parametrize('count', [0, 1, 5, 12, 30])
def test_every_object_is_served_while_proposals_last(count):
    gt = objects(count)
    found = output(seed=count)
    match = matcher()(
        InstanceData(scores=found.logits[0, 0], bboxes=found.boxes[0, 0]), gt,
        META)
    served = set(match.assigned.tolist()) - {-1}
    free = (match.assigned < 0).any()
    assert len(served) == count or not free
    for index, best in enumerate(match.best.tolist()):
        assert (best >= 0) == (index in served)
        if best >= 0:
            assert match.assigned[best] == index


def test_matcher_takes_the_obvious():
    gt = objects(3)
    boxes = torch.cat([gt.bboxes, torch.tensor([[0., 0., 1., 1.]])])
    logits = torch.full((4, 3), -5.0)
    logits[torch.arange(3), gt.labels] = 5.0
    match = matcher()(InstanceData(scores=logits, bboxes=boxes), gt, META)
    assert match.best.tolist() == [0, 1, 2]
    assert match.assigned.tolist()[:3] == [0, 1, 2]


@pytest.mark.parametrize('options', [
    {}, dict(CLS_LOSS_TYPE='qfl'), dict(QUALITY_HEAD=True),
    dict(GRAPH_TOPO_LOSS_WEIGHT=1.0)])
def test_no_object_at_all(options):
    loss = criterion(**options)
    found = output(images=2)
    found.attention = torch.full((2, 12, 12), 1 / 12)
    losses = loss(found, [objects(0), objects(0)], [META, META])
    total = sum(losses.values())
    assert total.isfinite()
    total.backward()
    assert found.logits.grad.isfinite().all()
    assert found.boxes.grad is None or found.boxes.grad.isfinite().all()


def test_iou_weight_leaves_the_divisor():
    gt = [objects(3)]
    found = output()
    plain = criterion()(found, gt, [META])
    weighted = criterion(BOX_LOSS_IOU_WEIGHT_POWER=1.0)(found, gt, [META])
    assert weighted['loss_bbox'] < plain['loss_bbox']
    assert torch.equal(weighted['loss_cls'], plain['loss_cls'])


def test_quality_loss_needs_the_head():
    with pytest.raises(ValueError, match='QualityHead'):
        criterion(QUALITY_HEAD=True)(
            output(quality=False), [objects(2)], [META])


@pytest.mark.parametrize('name', ['loss_cls', 'loss_bbox', 'loss_iou'])
def test_negative_weight(name):
    config = tiny_config().criterion
    config[name].loss_weight = -1.0
    with pytest.raises(ValueError, match=name):
        MODELS.build(config)


@pytest.mark.parametrize('build, valid', [
    (lambda: QualityLoss('huber'), "'bce', 'l1', 'mse'"),
    (lambda: TopologyLoss(norm='column'), "'row', 'none'"),
    (lambda: QualityLoss(loss_weight=-1), 'loss_weight'),
    (lambda: TopologyLoss(loss_weight=-1), 'loss_weight'),
    (lambda: FederatedClasses([-1.0, 2.0]), 'class_frequency'),
    (lambda: FederatedClasses(torch.zeros(3)), 'not all zero'),
    (lambda: FederatedClasses(num_sampled=0), 'num_sampled'),
    (lambda: tiny_config(CLS_LOSS_TYPE='ce'), "'focal', 'qfl'"),
])
def test_unknown_names_list_the_valid(build, valid):
    with pytest.raises(ValueError, match=valid):
        build()


def test_topology_of_equal_matrices_is_zero():
    """Objects that overlap, whose proposals attend to each other alone."""
    gt = InstanceData(
        bboxes=torch.tensor([[0., 0., 10., 10.], [2., 0., 12., 10.],
                             [50., 50., 60., 60.]]),
        labels=torch.zeros(3, dtype=torch.long))
    attention = torch.zeros(1, 4, 4)
    attention[0, 1, 2] = attention[0, 2, 1] = 0.3
    match = Match(torch.tensor([-1, 0, 1, 2]), torch.tensor([1, 2, 3]))
    assert TopologyLoss()(attention, [match], [gt]) == 0
    attention[0, 3, 1] = 0.1
    assert TopologyLoss()(attention, [match], [gt]) > 0


def test_federated_classes():
    chosen = FederatedClasses([1.0] * 100, num_sampled=10)(
        torch.tensor([3, 90, 3]), 100)
    assert len(chosen) == 10
    assert {3, 90} <= set(chosen.tolist())
    assert torch.equal(chosen, chosen.sort()[0])
    # classes that never occur are not drawn
    rare = FederatedClasses([0.0] * 95 + [1.0] * 5, num_sampled=10)(
        torch.tensor([3]), 100)
    assert rare.tolist() == [3, 95, 96, 97, 98, 99]


def test_federated_loss_ignores_other_classes():
    config = tiny_config().criterion
    config.federated = dict(
        type='FederatedClasses', class_frequency=[1, 0, 0], num_sampled=1)
    gt = InstanceData(
        bboxes=torch.tensor([[10., 10., 40., 40.]]),
        labels=torch.tensor([1]))
    found = output()
    sum(MODELS.build(config)(found, [gt], [META]).values()).backward()
    assert found.logits.grad[..., 1].abs().sum() > 0
    assert found.logits.grad[..., [0, 2]].abs().sum() == 0


@pytest.mark.parametrize('frequency, message', [
    ([1.0, 2.0], '2 class frequencies for 3 classes'),
    (None, 'FederatedFrequencyHook')])
def test_federated_frequency_errors(frequency, message):
    with pytest.raises(ValueError, match=message):
        FederatedClasses(frequency)(torch.tensor([0]), 3)
