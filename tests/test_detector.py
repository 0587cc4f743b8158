"""The detector's two walks on a tiny model."""

import pytest
import torch
from tiny import batch, build, losses_of, pick, stage, tiny_config

from mmdiffdet.diffusion import corrupt
from mmdiffdet.diffusion.noise import side_generator
from mmdiffdet.models import detector

LABEL_IDS = dict(parts=['d3pm'], label_scheduler=dict(use_distribution=False))
# changes that add a module to the plain model
MODULES = {
    'label_ids': LABEL_IDS,
    'd3pm': dict(parts=['d3pm']),
    'quality': dict(parts=['quality'], test_cfg=dict(quality_power=0.0)),
    'geo_bias_mlp': stage(attention_parts=[dict(type='GeometryBias', mode='mlp')]),
    'geo_bias_learnable': stage(attention_parts=[dict(type='GeometryBias', learnable_heads=4)]),
    'geo_feat': dict(parts=['geo_feat']),
    'geo_feat_add': stage(feature_parts=[dict(type='GeometryFeature')]),
    'geo_feat_reg': stage(regression_parts=[dict(type='GeometryFeature')]),
    'geo_feat_rel': stage(feature_parts=[dict(type='GeometryFeature', relative=True)]),
    'topology': dict(parts=['topo']),
}
NO_INTERACTION = dict(_delete_=True, type='NoInteraction')
# of these the first forward is another one: the bias does not start at zero,
# and messages are means over the other proposals
NOT_ZERO = ('geo_feat_rel',)


def guided(**guidance):
    return dict(
        parts=['guidance'],
        sampler=dict(guidance=guidance),
        test_cfg=dict(quality_power=0.0),
    )


def detections(model, data):
    results = model.eval().test_step(data)
    return [sample.pred_instances for sample in results]


def assert_same(found, expected, exact=False):
    assert len(found) == len(expected)
    for a, b in zip(found, expected):
        assert len(a) == len(b) > 0
        assert torch.equal(a.labels, b.labels)
        if exact:
            assert torch.equal(a.bboxes, b.bboxes)
            assert torch.equal(a.scores, b.scores)
        else:
            assert torch.allclose(a.bboxes, b.bboxes, atol=1e-3, rtol=0)
            assert torch.allclose(a.scores, b.scores, atol=1e-5, rtol=0)


def restless(steps=1, **changes):
    """A tiny model whose scores lie on both sides of the renewal's 0.5."""
    config = tiny_config(**changes)
    config.sampler.sampling_timesteps = steps
    model = build(config)
    torch.manual_seed(5)
    with torch.no_grad():
        for stage in model.bbox_head.head_series:
            stage.class_logits.weight.normal_(0, 1)
            stage.class_logits.bias.fill_(-3.0)
            stage.bboxes_delta.weight.normal_(0, 0.2)
            for name, parameter in stage.named_parameters():
                if '_parts.' in name and not parameter.any():
                    parameter.normal_()  # parts that start at zero act too
    return model


@pytest.mark.parametrize(
    'options, images_per_pass',
    [
        (dict(steps=1), 1),
        (dict(steps=1), 4),
        (dict(steps=4), 1),
        (dict(steps=3, parts=['d3pm']), 1),
        (dict(steps=3, **LABEL_IDS), 1),
        (dict(steps=2, **guided(scale=2.0, mode='all', noise_scale=0.5)), 1),
    ],
)
def test_batching_never_changes_a_result(options, images_per_pass):
    """Sizes with one padded shape and with others, in any order."""
    model = restless(**options)
    model.test_cfg['images_per_pass'] = images_per_pass
    exact = images_per_pass == 1
    sizes = [(64, 96), (60, 90), (96, 64), (64, 96), (33, 32)]
    data = batch(sizes, [1] * 5)
    together = detections(model, data)
    alone = [detections(model, pick(data, i))[0] for i in range(5)]
    assert_same(together, alone, exact)
    order = [3, 1, 4, 0, 2]
    shuffled = detections(model, pick(data, *order))
    assert_same(shuffled, [together[i] for i in order], exact)


@pytest.mark.parametrize('options', [dict(steps=4), dict(steps=2, parts=['d3pm'])])
def test_images_of_one_pass_are_merged_apart(options):
    """Several steps of several images at once, within what rounding does."""
    model = restless(**options)
    data = batch([(64, 96)] * 4, [1] * 4)
    alone = detections(model, data)
    model.test_cfg['images_per_pass'] = 4
    for a, b in zip(detections(model, data), alone):
        assert len(a) == len(b)
        assert torch.allclose(a.scores, b.scores, atol=2e-3)
        assert torch.allclose(a.bboxes[:5], b.bboxes[:5], atol=0.1)


@pytest.mark.parametrize(
    'options',
    [LABEL_IDS, dict(parts=['d3pm']), guided(scale=2.0)],
)
def test_restless_parts_take_part(options):
    data = batch()
    plain = detections(restless(2), data)
    other = detections(restless(2, **options), data)
    assert any(not torch.equal(a.bboxes[:3], b.bboxes[:3]) for a, b in zip(plain, other))


def test_guidance_noise_moves_no_other_draw():
    seen = []
    for noise in (0.0, 1e-6):
        model = restless(3, **guided(scale=1e-6, mode='all', noise_scale=noise))
        inputs = model.data_preprocessor(batch(), False)
        with torch.no_grad():
            table = model.bbox_head.tabulate(model.extract_feat(inputs['inputs']))
            steps = []
            model.eval().detect(
                table, [s.metainfo for s in inputs['data_samples']], callback=steps.append
            )
        seen.append(steps[1].boxes)
    assert torch.allclose(*seen, atol=0.05)


def test_renewal_leaves_the_noise_of_kept_proposals():
    from mmdiffdet.diffusion import (
        BoxCodec,
        BoxRenewal,
        PerImageNoise,
        Prediction,
        build_box_scheduler,
        sample,
    )

    scheduler = build_box_scheduler(dict(type='DDIMScheduler'))
    boxes = torch.tensor([20.0, 10.0, 60.0, 40.0]).expand(1, 6, 4)
    logits = torch.tensor([3.0, 3.0, 3.0, -3.0, -3.0, -3.0])[None, :, None]
    seen = []
    for renewal in (None, BoxRenewal()):
        scheduler.set_timesteps(5)
        steps = []
        noise = PerImageNoise.from_seed(0, [1])
        sample(
            lambda b, s, t: Prediction(boxes, logits),
            scheduler,
            noise(6, 4),
            noise,
            BoxCodec(),
            torch.tensor([[64.0, 96.0]]),
            renewal=renewal,
            callback=steps.append,
        )
        seen.append(steps[-1].boxes[0])
    assert torch.equal(seen[0][:3], seen[1][:3])
    assert not torch.equal(seen[0][3:], seen[1][3:])


def test_renewal_and_ensemble_take_part():
    """The test above would pass on a model that never renews."""
    data = batch()
    model = restless(4)
    seen = []
    full = detections(model, data)
    inputs = model.data_preprocessor(data, False)
    table = model.bbox_head.tabulate(model.extract_feat(inputs['inputs']))
    with torch.no_grad():
        model.detect(table, [s.metainfo for s in inputs['data_samples']], callback=seen.append)
    renewed = torch.stack([s.renewed.float().mean(1) for s in seen[:-1]])
    assert (renewed.mean(0) > 0).all() and (renewed.mean(0) < 1).all()
    model.sampler.renewal = None
    without_renewal = detections(model, data)
    model.sampler.ensemble = None
    last_step_only = detections(model, data)
    assert len({x[0].scores.sum().item() for x in (full, without_renewal, last_step_only)}) == 3


def test_the_same_twice_and_another_eval_seed():
    model = restless(4)
    data = batch()
    first = detections(model, data)
    torch.manual_seed(99)  # the global generator has no part in it
    assert_same(detections(model, data), first, exact=True)
    model.test_cfg['eval_seed'] = 1
    other = detections(model, data)
    assert not torch.equal(other[0].scores[:5], first[0].scores[:5])


def test_forward_in_mode_predict_is_the_same():
    """MMDetection's own way in, which the test loop does not take."""
    model = restless(4).eval()
    data = batch([(64, 96)], [1])
    with torch.no_grad():  # with gradients the kernels are others
        expected = detections(model, data)
        found = model(**model.data_preprocessor(data, False), mode='predict')
    assert_same([s.pred_instances for s in found], expected, exact=True)


def test_detections_are_inside_the_original_image():
    model = restless()
    data = batch([(64, 96)], [1])
    data['data_samples'][0].set_metainfo(dict(ori_shape=(128, 192), scale_factor=(0.5, 0.5)))
    found = detections(model, data)[0]
    assert found.bboxes.min() >= 0
    assert found.bboxes[:, 2].max() <= 192
    assert found.bboxes[:, 3].max() <= 128
    assert found.bboxes[:, 2].max() > 96  # rescaled indeed
    assert (found.scores[1:] <= found.scores[:-1]).all()


@pytest.mark.parametrize('objects', [(3, 2), (0, 2), (0, 0), (30, 1)])
def test_losses_for_any_number_of_objects(objects):
    model = build(tiny_config()).train()
    losses = losses_of(model, batch(objects=objects))
    assert {'loss_cls', 's0.loss_giou', 's0.loss_bbox'} <= set(losses)
    total, _ = model.parse_losses(losses)
    total.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients and all(g.isfinite().all() for g in gradients)


def test_no_loss_for_boxes_of_images_without_objects():
    losses = losses_of(build(tiny_config()).train(), batch(objects=(0, 0)))
    assert losses['loss_bbox'] == 0 and losses['loss_giou'] == 0
    assert losses['loss_cls'] > 0


def test_infinite_loss_names_itself_and_the_way_out():
    model = build(tiny_config()).train()
    with torch.no_grad():
        model.bbox_head.head_series[1].class_logits.bias.fill_(float('nan'))
    losses = losses_of(model, batch())
    with pytest.raises(FloatingPointError, match=r'loss_cls.*--resume'):
        model.parse_losses(losses)


def test_label_statistics_are_logged(monkeypatch):
    model = build(tiny_config(['d3pm'])).train()
    noisy = []

    def spy(*args):
        noisy.append(corrupt(*args))
        return noisy[0]

    monkeypatch.setattr(detector, 'corrupt', spy)
    losses = losses_of(model, batch(objects=(5, 5)))
    total, log = model.parse_losses(losses)
    keep = model.label_scheduler.keep[noisy[0].t].mean()
    assert log['label_keep_prob'] == keep.item()
    known = [
        int(s != 3)
        for s, c in zip(noisy[0].label_state.flatten(), noisy[0].clean_labels.flatten())
        if c != 3
    ]
    assert len(known) == 10
    assert log['label_non_unk_ratio'] == pytest.approx(sum(known) / 10)
    plain = sum(v for k, v in losses.items() if 'loss' in k)
    assert total.item() == pytest.approx(plain.item(), rel=1e-6)


@pytest.mark.parametrize('name', MODULES)
def test_a_module_changes_nobody_else(name):
    """Other weights, later draws and, from zero, the first forward."""
    plain = build(tiny_config(), seed=3)
    after_plain = torch.rand(4)
    model = build(tiny_config(**MODULES[name]), seed=3)
    assert torch.equal(torch.rand(4), after_plain)
    weights = model.state_dict()
    for key, value in plain.state_dict().items():
        assert torch.equal(weights[key], value), key

    losses = []
    for m in (plain, model):
        torch.manual_seed(7)
        losses.append(losses_of(m.train(), batch()))
        losses.append(torch.rand(4))
    assert torch.equal(losses[1], losses[3])  # draws of the next iteration
    if name not in NOT_ZERO:
        for key, value in losses[0].items():
            assert torch.equal(losses[2][key], value), key
    found, expected = detections(model, batch()), detections(plain, batch())
    if name not in NOT_ZERO:
        assert_same(found, expected, exact=True)


def test_relative_messages_start_with_the_mean():
    """What NOT_ZERO says: there the features move from the start."""
    plain = losses_of(build(tiny_config()).train(), batch())
    torch.manual_seed(0)
    other = losses_of(build(tiny_config(**MODULES['geo_feat_rel'])).train(), batch())
    assert not torch.equal(plain['loss_cls'], other['loss_cls'])


def test_side_generator_follows_the_gpu(monkeypatch):
    """Whose draws leave the generator of the CPU where it was."""

    class Cuda:
        offset = 0

        def initial_seed(self):
            return 5

        def get_offset(self):
            return self.offset

    cuda = Cuda()
    monkeypatch.setattr(torch.cuda, 'is_initialized', lambda: True)
    monkeypatch.setattr(torch.cuda, 'current_device', lambda: 0)
    monkeypatch.setattr(torch.cuda, 'default_generators', [cuda])
    torch.manual_seed(0)
    first = torch.rand(3, generator=side_generator('a'))
    assert torch.equal(first, torch.rand(3, generator=side_generator('a')))
    cuda.offset = 4  # as after a draw
    assert not torch.equal(first, torch.rand(3, generator=side_generator('a')))


def test_side_generator_follows_without_advancing():
    torch.manual_seed(1)
    one = torch.rand(3, generator=side_generator('a'))
    again = torch.rand(3, generator=side_generator('a'))
    other = torch.rand(3, generator=side_generator('b'))
    assert torch.equal(one, again) and not torch.equal(one, other)
    torch.rand(1)
    assert not torch.equal(one, torch.rand(3, generator=side_generator('a')))


def test_mmdetection_extractor_is_selectable():
    config = tiny_config()
    ours = restless()
    config.bbox_head.roi_extractor = dict(
        type='mmdet.SingleRoIExtractor',
        roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=2),
        out_channels=16,
        featmap_strides=[4, 8, 16, 32],
    )
    theirs = build(config)
    theirs.load_state_dict(ours.state_dict())
    data = batch()
    for a, b in zip(detections(ours, data), detections(theirs, data)):
        assert torch.allclose(a.bboxes, b.bboxes, atol=0.05)
        assert torch.allclose(a.scores, b.scores, atol=1e-3)


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(test_cfg=dict(quality_power=1.0)), 'QualityHead'),
        (dict(test_cfg=dict(quality_power=-1.0)), 'quality_power'),
        (dict(test_cfg=dict(images_per_pass=0)), 'images_per_pass'),
        (dict(test_cfg=dict(nms=dict(type='bogus'))), "'nms', 'soft_nms'"),
        (dict(test_cfg=dict(score_threshold=0.1)), 'score_thr'),
        (dict(train_cfg=dict(timesteps='last')), "'all', 'sampling'"),
        (dict(sampler=dict(guidance=dict(type='QualityGuidance', scale=1.0))), 'sampler.guidance'),
        (dict(stage(interaction=NO_INTERACTION), parts=['topo']), 'interaction.type'),
        (dict(parts=['topo'], criterion=dict(loss_topology=dict(loss_weight=-1.0))), 'loss_weight'),
        (
            dict(parts=['quality'], criterion=dict(loss_quality=dict(loss_weight=-1.0))),
            'loss_quality.loss_weight',
        ),
        (dict(criterion=dict(iou_weight_power=-1.0)), 'iou_weight_power'),
        (dict(parts=['d3pm'], label_scheduler=dict(kernel='absorbing')), "'mask', 'uniform'"),
        (dict(parts=['d3pm'], label_scheduler=dict(keep_schedule='cosine')), 'alphas_cumprod'),
        (
            stage(attention_parts=[dict(type='GeometryBias', mode='angle')]),
            "'distance', 'iou', 'mlp'",
        ),
        (
            stage(attention_parts=[dict(type='GeometryBias', schedule=dict(type='cosine'))]),
            "'constant', 'linear', 'threshold'",
        ),
        (
            stage(position_parts=[dict(type='GeometryFeature', encoder='conv')]),
            "'mlp', 'linear'",
        ),
        (
            stage(
                position_parts=[dict(type='GeometryFeature', relative=True, relative_norm='max')]
            ),
            "'softmax', 'mean', 'none'",
        ),
        (
            dict(parts=['quality'], criterion=dict(loss_quality=dict(loss_type='huber'))),
            "'bce', 'l1', 'mse'",
        ),
        (
            dict(criterion=dict(federated=dict(type='FederatedClasses', class_frequency=[1, 2]))),
            '2 class frequencies for 3 classes',
        ),
        (dict(label_scheduler=dict(type='D3PMScheduler')), 'LabelEmbedding'),
        (dict(stage(interaction=NO_INTERACTION), parts=['geo_bias']), 'act through attention'),
        (
            dict(parts=['d3pm'], sampler=dict(scheduler=dict(num_train_timesteps=200))),
            'num_train_timesteps',
        ),
    ],
)
def test_bad_configs(change, message):
    with pytest.raises(Exception, match=message):
        build(tiny_config(**change))


def test_scales_of_heads_must_fit():
    config = tiny_config(**stage(attention_parts=[dict(type='GeometryBias', learnable_heads=1)]))
    with pytest.raises(ValueError, match='learnable_heads is 1'):
        build(config)


def test_classes_do_not_suppress_each_other():
    """Boxes over the border, for which offsets by class fail."""
    from mmdiffdet.models.postprocess import merge as merge_boxes

    boxes = torch.tensor(
        [[300.0, 300.0, 800.0, 800.0], [-480.0, -480.0, 20.0, 20.0], [310.0, 300.0, 800.0, 800.0]]
    )
    found = merge_boxes(
        boxes,
        torch.tensor([0.9, 0.8, 0.7]),
        torch.tensor([0, 1, 0]),
        dict(img_shape=(800, 800)),
        nms=dict(type='nms', iou_threshold=0.5),
    )
    assert found.labels.tolist() == [0, 1]


@pytest.mark.parametrize('steps', [1, 3])
def test_training_at_the_timesteps_of_sampling(steps):
    config = tiny_config(sampler=dict(sampling_timesteps=steps))
    config.train_cfg.timesteps = 'sampling'
    model, seen = build(config).train(), set()
    model.bbox_head.register_forward_pre_hook(lambda head, args: seen.update(args[2].tolist()))
    for _ in range(12):
        losses_of(model, batch())
    assert seen == set(model.sampler.timesteps.tolist())
    assert len(seen) == steps and max(seen) == 999
