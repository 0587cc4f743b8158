"""Formulas at values worked out by hand, and at the edges of their cases."""

import inspect

import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData
from tiny import batch, build, tiny_config

from mmdiffdet.diffusion import BoxCodec, BoxRenewal, D3PMScheduler, QualityGuidance
from mmdiffdet.diffusion.time_schedule import TimeSchedule
from mmdiffdet.distill.distillers import SamplerDistiller
from mmdiffdet.losses import DynamicKAssigner, PaddedObjects
from mmdiffdet.models import DiffusionDet, StageContext
from mmdiffdet.models.box_deltas import apply_deltas
from mmdiffdet.models.parts import GeometryBias, GeometryFeature, LabelEmbedding
from mmdiffdet.models.postprocess import merge
from mmdiffdet.models.roi_gather import GatherRoIExtractor
from mmdiffdet.models.stage import DiffusionDetStage, _sum
from mmdiffdet.registry import MODELS


@pytest.mark.parametrize(
    'options, expected',
    [
        (dict(), [1, 1, 1]),
        (dict(type='linear'), [1, 1 - 333 / 999, 0]),
        (dict(type='linear', power=2.0), [1, (2 / 3) ** 2, 0]),
        (dict(type='linear', num_train_timesteps=667), [1, 0.5, 0]),
        (dict(type='threshold', threshold=333), [1, 1, 0]),
        (dict(type='threshold', threshold=332), [1, 0, 0]),
    ],
)
def test_time_schedules(options, expected):
    weights = TimeSchedule(**options)(torch.tensor([0, 333, 999]))
    torch.testing.assert_close(weights, torch.tensor(expected, dtype=torch.float32))


@pytest.mark.parametrize('kernel', ['mask', 'uniform'])
def test_posterior_of_a_distribution(kernel):
    """The mean over c_t of Bayes' posteriors, each of which is normalised."""
    d3pm = D3PMScheduler(3, kernel=kernel, update='posterior')
    torch.manual_seed(0)
    logits = torch.randn(1, 1, 3)
    ct = torch.rand(1, 1, 4)
    ct = ct / ct.sum()
    found = d3pm.step(logits, 700, ct, 300).prev_sample[0, 0]
    keep_t, keep_s = (float(d3pm.keep[i]) for i in (700, 300))
    noise = F.one_hot(torch.tensor(3), 4).float() if kernel == 'mask' else torch.full((4,), 0.25)

    def step(ratio):
        return ratio * torch.eye(4) + (1 - ratio) * noise.expand(4, 4)

    p0 = F.pad(logits[0, 0].softmax(-1), (0, 1))
    joint = (p0 @ step(keep_s))[:, None] * step(keep_t / keep_s)  # c_next, c_t
    posterior = joint / joint.sum(0, keepdim=True)
    torch.testing.assert_close(found, posterior @ ct[0, 0], rtol=1e-4, atol=1e-5)


def test_a_draw_at_the_border_belongs_to_the_next_id():
    """Draws are from [0, 1): a state of probability 0 is never drawn."""
    p = torch.tensor([[[0.0, 0.25, 0.0, 0.75]]]).expand(1, 4, 4)
    ids = D3PMScheduler(3).sample_ids(p, torch.tensor([[0.0, 0.25, 0.2499, 0.9999]]))
    assert ids.tolist() == [[1, 3, 1, 3]]


def test_a_proposal_attends_to_itself_and_to_its_nearest():
    boxes = torch.tensor([[0.0, 0, 10, 10], [4, 0, 14, 10], [100, 0, 110, 10], [107, 0, 117, 10]])
    bias = GeometryBias(feat_channels=8, num_classes=3, mode='distance', scale=0.0, topk=1)
    context = StageContext(torch.zeros(1, 4, 8), boxes[None], torch.tensor([0]))
    attends = (bias(context)[0, 0] == 0).int().tolist()
    assert attends == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]


def test_parts_of_one_kind_are_summed():
    stage = MODELS.build(
        tiny_config(['geo_bias', 'geo_feat']).bbox_head.stage
        | dict(num_classes=3, feat_channels=16)
    )
    boxes = torch.tensor([[[0.0, 0, 10, 10], [4, 0, 14, 10], [50, 0, 110, 10]]])
    context = StageContext(torch.zeros(1, 3, 16), boxes, torch.tensor([0]))
    [bias] = stage.attention_parts.values()
    stage.attention_parts['second'] = GeometryBias(16, 3, mode='iou')
    expected = bias(context) + stage.attention_parts['second'](context)
    assert torch.equal(_sum(stage.attention_parts, context), expected)
    assert _sum(stage.output_parts, context) is None


def test_a_side_shrinks_and_grows_at_most_by_the_clip():
    """dw and dh are capped at ln(100000 / 16), and not below."""
    model = build(tiny_config())
    stage = model.bbox_head.head_series[0]
    boxes = torch.tensor([[0.0, 0, 10, 10]])
    for delta, side in ((50.0, 10 * 100000 / 16), (-3.0, 10 * torch.e**-3)):
        moved = apply_deltas(boxes, torch.tensor([[0.0, 0, delta, delta]]))
        assert float(moved[0, 2] - moved[0, 0]) == pytest.approx(side, rel=1e-4)
    with torch.no_grad():
        stage.bboxes_delta.weight.zero_()
        stage.bboxes_delta.bias.copy_(torch.tensor([1.0, 0, 50, 0]))
        maps = [torch.zeros(1, 16, 64 // s, 64 // s) for s in (4, 8, 16, 32)]
        head = model.bbox_head
        output = stage(
            head.tabulate(maps),
            head.roi_extractor,
            boxes[None],
            None,
            torch.zeros(1, 64),
            torch.tensor([0]),
            torch.tensor([0]),
        ).boxes[0, 0]
    # weights (2, 2, 1, 1): the centre moves by half a width
    assert float(output[0] + output[2]) / 2 == pytest.approx(10, rel=1e-3)
    assert float(output[2] - output[0]) == pytest.approx(62500, rel=1e-4)


def test_detections_end_at_the_image():
    boxes = torch.tensor([[-5.0, -6, 300, 400], [10, 20, 30, 40], [130, 0, 200, 50]])
    found = merge(
        boxes,
        torch.tensor([0.9, 0.8, 0.7]),
        torch.tensor([0, 1, 2]),
        dict(img_shape=(96, 128, 3), scale_factor=(2.0, 4.0)),
    )
    # width before height, then back to the original image; the last is outside
    assert found.bboxes.tolist() == [[0, 0, 64, 24], [5, 5, 15, 10]]
    assert found.labels.tolist() == [0, 1]


def test_roi_samples_at_the_border_of_a_map():
    """A sample on the far border counts, one beyond it does not (RoIAlign)."""
    extractor = GatherRoIExtractor(1, [1], output_size=1, sampling_ratio=1)
    maps = [torch.arange(1.0, 17).view(1, 1, 4, 4)]

    def at(x, y):
        """The sample of a RoI without extent; pixels' centres are at 0.5."""
        return float(extractor(maps, torch.tensor([[0.0, x + 0.5, y + 0.5, x + 0.5, y + 0.5]])))

    assert at(1, 2) == 10
    assert at(4, 2) == 12 and at(1, 4) == 14  # moved onto the map
    assert at(4.01, 2) == 0 and at(1, 4.01) == 0
    assert at(-1, 2) == 9 and at(1, -1) == 2
    assert at(-1.01, 2) == 0 and at(1, -1.01) == 0


@pytest.mark.parametrize('edge, inside', [(0.0, False), (1e-3, True)])
@pytest.mark.parametrize('side', range(4))
def test_a_centre_on_the_border_is_outside(side, edge, inside):
    """Of the object's box; the cost then rises by 100."""
    target = torch.tensor([20.0, 20, 40, 40])
    centre = torch.tensor([30.0, 30])
    centre[side % 2] = target[side] + (edge if side < 2 else -edge)
    proposal = torch.cat([centre - 4, centre + 4])
    cost = (
        DynamicKAssigner()
        .assign_batch(
            torch.zeros(1, 1, 1, 3),
            proposal[None, None, None],
            PaddedObjects.pad(
                [InstanceData(bboxes=target[None], labels=torch.zeros(1, dtype=torch.long))]
            ),
            torch.tensor([[96.0, 128]]),
        )
        .cost
    )
    assert (cost > 90).item() == (not inside)


def test_an_image_without_an_id_has_that_of_zero():
    model = build(tiny_config()).eval()
    data = batch(sizes=((64, 96),), objects=(1,))
    inputs = model.data_preprocessor(data, False)
    table = model.bbox_head.tabulate(model.extract_feat(inputs['inputs']))
    meta = dict(inputs['data_samples'][0].metainfo)
    with torch.no_grad():
        found = {}
        for name, image_id in (('zero', 0), ('one', 1), ('none', None)):
            meta['img_id'] = image_id
            if image_id is None:
                del meta['img_id']
            [found[name]] = model.detect(table, [meta])
    assert torch.equal(found['none'].bboxes, found['zero'].bboxes)
    assert not torch.equal(found['one'].scores, found['zero'].scores)


@pytest.mark.parametrize('score_thr, ok', [(0, True), (1, True), (1.001, False), (-0.001, False)])
def test_range_of_the_renewal(score_thr, ok):
    if ok:
        assert BoxRenewal(score_thr).score_thr == score_thr
    else:
        with pytest.raises(ValueError, match='score_thr'):
            BoxRenewal(score_thr)


@pytest.mark.parametrize('option', ['topk', 'langevin_steps'])
def test_range_of_the_guidance(option):
    assert getattr(QualityGuidance(0.1, **{option: 1}), option) == 1
    with pytest.raises(ValueError, match=option):
        QualityGuidance(0.1, **{option: 0})
    for name in ('scale', 'noise_scale'):
        options = dict(scale=0.1, noise_scale=0.1)
        assert getattr(QualityGuidance(**{**options, name: 0.0}), name) == 0
        with pytest.raises(ValueError, match=name):
            QualityGuidance(**{**options, name: -0.1})


def defaults(function):
    return {
        name: p.default
        for name, p in inspect.signature(function).parameters.items()
        if p.default is not p.empty
    }


@pytest.mark.parametrize(
    'function, expected',
    [
        (BoxCodec, dict(scale=2.0, noise_sigma=(1.0, 1.0, 1.0, 1.0))),
        (
            DynamicKAssigner,
            dict(
                cls_weight=2.0,
                bbox_weight=5.0,
                giou_weight=2.0,
                alpha=0.25,
                gamma=2.0,
                candidate_topk=5,
                center_radius=2.5,
                outside_cost=100.0,
                background_cost=10000.0,
            ),
        ),
        (
            DiffusionDetStage,
            dict(
                feat_channels=256,
                feedforward_channels=2048,
                dynamic_dim=64,
                roi_size=7,
                num_cls_fcs=1,
                num_reg_fcs=3,
                prior_prob=0.01,
            ),
        ),
        (LabelEmbedding, dict(scale=0.1, relative_to_unk=False)),
        (SamplerDistiller, dict(teacher_steps=20, eta=0.0, student_steps=1, topk=100)),
        (
            GatherRoIExtractor,
            dict(output_size=7, sampling_ratio=2, finest_scale=56),
        ),
    ],
    ids=lambda x: getattr(x, '__name__', ''),
)
def test_defaults_are_the_reference_s(function, expected):
    found = defaults(function)
    assert {name: found[name] for name in expected} == expected


def test_defaults_of_geometry():
    feature = GeometryFeature(feat_channels=8, num_classes=3)
    assert (feature.schedule.type, feature.schedule.power) == ('linear', 2.0)
    assert feature.scale == 0.1


def test_defaults_of_the_detector():
    config = tiny_config()
    config.train_cfg = config.test_cfg = None
    model = build(config)
    assert model.train_cfg == dict(num_proposals=500, timesteps='all', noise_pairing='random')
    assert model.test_cfg == dict(
        num_proposals=500,
        eval_seed=0,
        images_per_pass=1,
        quality_power=0.0,
        nms=dict(type='nms', iou_threshold=0.5),
        score_thr=0.0,
        max_per_img=-1,
    )
    assert isinstance(model, DiffusionDet) and not model._backbone_frozen


def test_a_stage_has_the_size_of_its_rois():
    config = tiny_config().bbox_head
    config.roi_extractor.output_size = 5
    for extractor in (
        config.roi_extractor,
        dict(
            type='mmdet.SingleRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=5, sampling_ratio=2),
            out_channels=16,
            featmap_strides=[4, 8, 16, 32],
        ),
    ):
        head = MODELS.build({**config, 'roi_extractor': extractor})
        assert head.head_series[0].inst_interact.out_layer.in_features == 25 * 16
    config.stage.roi_size = 7
    with pytest.raises(ValueError, match='roi_size is 7, roi_extractor gives 5'):
        MODELS.build(config)


def test_finest_scale_is_the_side_at_the_border_of_levels():
    boxes = torch.tensor([[0.0, 0, 55, 55], [0, 0, 57, 57], [0, 0, 113, 113]])
    for scale, levels in ((56, [0, 0, 1]), (28, [0, 1, 2]), (112, [0, 0, 0])):
        extractor = GatherRoIExtractor(1, [4, 8, 16], finest_scale=scale)
        assert extractor._levels(boxes, 3).tolist() == levels
