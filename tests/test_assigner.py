"""The assigner: its rule, one call for a batch, and MMDetection's in its
place."""

import pytest
import torch
from mmdet.models.task_modules import BaseAssigner
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData
from test_losses import META, SIZE, criterion, objects, output
from tiny import batch, build, losses_of, tiny_config

from mmdiffdet.losses import DynamicKAssigner, PaddedObjects
from mmdiffdet.losses.assigner import BACKGROUND, IGNORED, assign
from mmdiffdet.registry import TASK_UTILS

COSTS = [
    dict(type='mmdet.FocalLossCost', alpha=0.25, gamma=2, eps=1e-8, weight=2),
    dict(type='mmdet.BBoxL1Cost', box_format='xyxy', weight=5),
    dict(type='mmdet.IoUCost', iou_mode='giou', weight=2),
]


def plain_costs(predictions, gt):
    """(N, G), pair by pair from MMDetection's costs."""
    cost = sum(TASK_UTILS.build(c)(predictions, gt, META) for c in COSTS)
    for i, box in enumerate(predictions.bboxes):
        centre = (box[:2] + box[2:]) / 2
        near_any = False
        for j, target in enumerate(gt.bboxes):
            low, high = target[:2], target[2:]
            middle, reach = (low + high) / 2, 2.5 * (high - low)
            inside = bool(((centre > low) & (centre < high)).all())
            near = bool(((centre > middle - reach) & (centre < middle + reach)).all())
            near_any |= inside or near
            if not (inside and near):
                cost[i, j] += 100
        if not near_any:
            cost[i] += 10000
    return cost


def plain_assign(predictions, gt):
    """Object of each proposal as a list, one object after the other."""
    num, count = len(predictions.bboxes), len(gt.bboxes)
    if not count:
        return [BACKGROUND] * num
    cost = plain_costs(predictions, gt)
    iou = bbox_overlaps(predictions.bboxes, gt.bboxes)
    claimed = [[] for _ in range(num)]
    for j in range(count):
        k = max(1, int(iou[:, j].topk(min(5, num))[0].sum()))
        for i in cost[:, j].sort(stable=True)[1][:k].tolist():
            claimed[i].append(j)
    result = []
    for i, by in enumerate(claimed):
        result.append(BACKGROUND if not by else by[0] if len(by) == 1 else int(cost[i].argmin()))
    free = [i for i in range(num) if result[i] == BACKGROUND] or range(num)
    served, named = set(result), {}
    for j in range(count):
        if j not in served:
            i = min(free, key=lambda i: float(cost[i, j]))
            named.setdefault(i, j)
    for i, j in named.items():
        result[i] = j if result[i] == BACKGROUND else min(j, result[i])
    return result


@pytest.mark.parametrize('seed', range(12))
def test_a_batch_is_assigned_as_image_by_image(seed):
    """Few and many objects, and more than proposals, in one batch."""
    found = output(num=12, stages=3, images=6, seed=seed)
    gt = [objects(count, seed + i) for i, count in enumerate([0, 1, 4, 12, 30, 9])]
    assigner = DynamicKAssigner()
    index = assign(
        assigner, found.logits, found.boxes, PaddedObjects.pad(gt), SIZE.expand(6, 2)
    ).index
    for s in range(3):
        for i in range(6):
            image = InstanceData(
                scores=found.logits[s, i].detach(), bboxes=found.boxes[s, i].detach()
            )
            result = assigner.assign(image, gt[i], META)
            assert torch.equal(result.gt_inds - 1, index[s, i])
            assert index[s, i].tolist() == plain_assign(image, gt[i])
            chosen = result.gt_inds > 0
            assert torch.equal(result.labels[chosen], gt[i].labels[index[s, i][chosen]])
            assert (result.labels[~chosen] == -1).all()


def boxes_near(*places):
    """Boxes of 10x10 pixels with their left upper corners there."""
    corner = torch.tensor([[float(x), 20.0] for x in places])
    return torch.cat([corner, corner + 10], 1)


def assigned(proposals, targets):
    """Object of each proposal, all logits and labels alike."""
    return (
        DynamicKAssigner()
        .assign(
            InstanceData(scores=torch.zeros(len(proposals), 3), bboxes=proposals),
            InstanceData(bboxes=targets, labels=torch.zeros(len(targets), dtype=torch.long)),
            META,
        )
        .gt_inds.sub(1)
        .tolist()
    )


def test_of_those_that_name_one_proposal_the_first_listed_gets_it():
    # three objects at one place: the nearest proposal stays with the object
    # for which it is cheapest, the second one is named by both others
    targets = boxes_near(22, 21, 20)
    proposals = boxes_near(20, 26, 90)
    assert assigned(proposals, targets) == [2, 0, BACKGROUND]
    # listed the other way round
    assert assigned(proposals, targets.flip(0)) == [0, 1, BACKGROUND]


def test_no_proposal_is_free():
    """The object that is left competes with the present one."""
    assert assigned(boxes_near(20), boxes_near(21, 20)) == [0]
    assert assigned(boxes_near(20), boxes_near(20, 21)) == [0]


def test_the_obvious():
    gt = objects(3)
    proposals = torch.cat([gt.bboxes, torch.tensor([[0.0, 0.0, 1.0, 1.0]])])
    logits = torch.full((4, 3), -5.0)
    logits[torch.arange(3), gt.labels] = 5.0
    result = DynamicKAssigner().assign(InstanceData(scores=logits, bboxes=proposals), gt, META)
    assert result.gt_inds.tolist() == [1, 2, 3, 0]
    assert result.num_gts == 3
    assert torch.allclose(result.max_overlaps, torch.tensor([1.0, 1.0, 1.0, 0.0]))


@pytest.mark.parametrize(
    'option, moves',
    [
        (dict(cls_weight=50.0), 'logits'),
        (dict(bbox_weight=500.0), 'l1'),
        (dict(giou_weight=0.0), 'giou'),
    ],
)
def test_weights_of_the_cost(option, moves):
    found = output(num=30)
    args = (found.logits, found.boxes, PaddedObjects.pad([objects(6)]), SIZE.expand(1, 2))
    plain = DynamicKAssigner().assign_batch(*args).cost
    other = DynamicKAssigner(**option).assign_batch(*args).cost
    costs = [TASK_UTILS.build(dict(c, weight=1.0)) for c in COSTS]
    cost = costs[['logits', 'l1', 'giou'].index(moves)](
        InstanceData(scores=found.logits[0, 0], bboxes=found.boxes[0, 0]), objects(6), META
    ).T
    name, weight = next(iter(option.items()))
    by = weight - getattr(DynamicKAssigner(), name)
    # in float32 beside a cost of 10,000
    torch.testing.assert_close((other - plain)[0, 0], by * cost, rtol=1e-4, atol=5e-3)


def test_candidates_and_centre_region():
    # three proposals with the object's own box
    proposals = boxes_near(20, 20, 20, 41)
    one = boxes_near(20)

    def count(**options):
        return int(
            (
                DynamicKAssigner(**options)
                .assign(
                    InstanceData(scores=torch.zeros(4, 3), bboxes=proposals),
                    InstanceData(bboxes=one, labels=torch.tensor([0])),
                    META,
                )
                .gt_inds
                > 0
            ).sum()
        )

    assert count() == 3
    assert count(candidate_topk=1) == 1

    def cost(**options):
        return (
            DynamicKAssigner(**options)
            .assign_batch(
                torch.zeros(1, 1, 4, 3),
                proposals[None, None],
                PaddedObjects.pad([InstanceData(bboxes=one, labels=torch.tensor([0]))]),
                SIZE,
            )
            .cost[0, 0, 0, 3]
        )

    # 2.1 widths from the object's centre: near, but not in the box
    assert 100 < cost() < 200
    assert cost(center_radius=2.0) > 10000
    assert cost(center_radius=2.0, background_cost=0.0) < 200
    assert cost(outside_cost=0.0) < 100


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(candidate_topk=0), 'candidate_topk must be at least 1'),
        (dict(cls_weight=-1.0), 'cls_weight must be >= 0'),
        (dict(gamma=-1.0), 'gamma must be >= 0'),
        (dict(alpha=7.0), 'alpha must be in'),
        (dict(outside_cost=-5.0), 'outside_cost must be >= 0'),
        (dict(background_cost=float('nan')), 'background_cost must be >= 0'),
        (dict(center_radius=float('nan')), 'center_radius must be >= 0'),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        DynamicKAssigner(**options)


def test_mmdetections_hungarian_assigner_trains():
    config = tiny_config()
    config.criterion.assigner = dict(type='mmdet.HungarianAssigner', match_costs=COSTS)
    model = build(config).train()
    data = batch(objects=(3, 0))
    index = assign(
        model.criterion.assigner,
        torch.randn(2, 2, 12, 3),
        torch.rand(2, 2, 12, 4),
        PaddedObjects.pad([s.gt_instances for s in data['data_samples']]),
        torch.tensor([[64.0, 96.0]] * 2),
    ).index
    for stage in index:  # one to one
        assert sorted(stage[0].tolist()) == [BACKGROUND] * 9 + [0, 1, 2]
        assert (stage[1] == BACKGROUND).all()
    optimizer = torch.optim.SGD(model.parameters(), 1e-4)
    values = []
    for _ in range(4):
        torch.manual_seed(0)
        total, _ = model.parse_losses(losses_of(model, data))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        values.append(total.item())
    assert values[-1] < values[0]


def test_mmdetections_topology_without_a_cost():
    config = tiny_config(['topo'])
    config.criterion.assigner = dict(type='mmdet.HungarianAssigner', match_costs=COSTS)
    losses = losses_of(build(config).train(), batch(objects=(3, 2)))
    assert losses['loss_topology'] > 0


def test_ignored_proposals_have_no_loss():
    """MaxIoUAssigner leaves those between its thresholds out."""
    assigner = dict(
        type='mmdet.MaxIoUAssigner', pos_iou_thr=0.7, neg_iou_thr=0.3, match_low_quality=False
    )
    loss = criterion(assigner=dict(assigner, _delete_=True))
    assert isinstance(loss.assigner, BaseAssigner)
    found = output(num=3, stages=1)
    gt = InstanceData(bboxes=boxes_near(20), labels=torch.zeros(1, dtype=torch.long))
    found.boxes = boxes_near(20, 24, 60)[None, None].requires_grad_()
    index = assign(loss.assigner, found.logits, found.boxes, PaddedObjects.pad([gt]), SIZE).index
    assert index.tolist() == [[[0, IGNORED, BACKGROUND]]]
    sum(loss(found, [gt], SIZE).values()).backward()
    moved = found.logits.grad[0, 0].abs().sum(-1) > 0
    assert moved.tolist() == [True, False, True]


@pytest.mark.parametrize(
    'assigner, message',
    [
        (dict(type='mmdet.SimOTAAssigner'), 'SimOTAAssigner takes points or probabilities'),
        (dict(type='mmdet.DynamicSoftLabelAssigner'), 'DynamicSoftLabelAssigner takes points'),
        (dict(type='mmdet.TaskAlignedAssigner', topk=3), 'TaskAlignedAssigner takes points'),
        (
            dict(type='mmdet.MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.5, ignore_iof_thr=0.5),
            'ignore_iof_thr has no effect',
        ),
    ],
)
def test_assigners_that_do_not_fit(assigner, message):
    with pytest.raises(ValueError, match=message):
        criterion(assigner=dict(assigner, _delete_=True))


@pytest.mark.parametrize('options', [dict(alpha=0.5), dict(gamma=1.0), dict(gamma=0.0)])
def test_focal_cost_has_its_alpha_and_gamma(options):
    found = output(num=30)
    args = (found.logits, found.boxes, PaddedObjects.pad([objects(6)]), SIZE.expand(1, 2))
    plain, other = (
        DynamicKAssigner().assign_batch(*args),
        DynamicKAssigner(**options).assign_batch(*args),
    )
    instances = InstanceData(scores=found.logits[0, 0], bboxes=found.boxes[0, 0])
    before, after = (
        TASK_UTILS.build({**COSTS[0], **o})(instances, objects(6), META).T for o in ({}, options)
    )
    torch.testing.assert_close(
        (other.cost - plain.cost)[0, 0], after - before, rtol=1e-4, atol=5e-3
    )
