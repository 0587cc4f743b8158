"""Runner, checkpoints, hooks and optimiser on a tiny model and data set."""

import itertools
import json
import pickle
import random
import runpy
import warnings
from unittest.mock import Mock, patch

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.runner import Runner
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader
from tiny import ROOT, build, runner_config, stage, tiny_config, write_coco

from mmdiffdet.engine import load_checkpoint_file, precision
from mmdiffdet.engine.checkpoint import load_weights
from mmdiffdet.engine.part_hooks import GeometryWarmupHook
from mmdiffdet.engine.part_optim import parts_of
from mmdiffdet.engine.trainer import use_amp
from mmdiffdet.registry import HOOKS, OPTIM_WRAPPER_CONSTRUCTORS


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return write_coco(tmp_path_factory.mktemp('coco'))


def train(cfg):
    cfg.experiment_name = cfg.work_dir.replace('/', '_')
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def weights_of(path):
    return load_checkpoint_file(path)['state_dict']


def test_train_test_and_metrics(data, tmp_path):
    runner = train(runner_config(data, tmp_path))
    assert (tmp_path / 'iter_2.pth').exists()
    cfg = runner_config(data, tmp_path / 'test')
    cfg.load_from = str(tmp_path / 'iter_2.pth')
    metrics = Runner.from_cfg(cfg).test()
    assert 0 <= metrics['coco/bbox_mAP'] <= 1
    scalars = runner.message_hub.log_scalars
    assert scalars['train/loss'].current() > 0
    assert scalars['train/grad_norm'].current() > 0


def test_resumed_training_ends_at_the_same_weights(data, tmp_path):
    """Bit by bit, and with other worker processes."""
    parts = ['d3pm']
    whole = runner_config(data, tmp_path / 'whole', parts)
    whole.train_cfg.max_iters = 4
    train(whole)
    half = runner_config(data, tmp_path / 'half', parts)
    train(half)
    half = runner_config(data, tmp_path / 'half', parts)
    half.train_cfg.max_iters = 4
    half.resume = True
    half.train_dataloader.num_workers = 2
    train(half)
    expected = weights_of(tmp_path / 'whole/iter_4.pth')
    found = weights_of(tmp_path / 'half/iter_4.pth')
    start = weights_of(tmp_path / 'half/iter_2.pth')
    for key, value in expected.items():
        assert torch.equal(found[key], value), key
    assert any(not torch.equal(start[key], expected[key]) for key in start)


def test_augmentation_follows_the_position():
    from mmdiffdet.datasets import SeedAugmentation, SeededInfiniteSampler

    sampler = SeededInfiniteSampler(range(5), seed=1)
    first = list(itertools.islice(sampler, 8))
    resumed = SeededInfiniteSampler(range(5), seed=1)
    resumed.skip(6)
    assert [(int(i), i.seed) for i in itertools.islice(resumed, 2)] == [
        (int(i), i.seed) for i in first[6:]
    ]
    assert len({i.seed for i in first}) == 8
    copy = pickle.loads(pickle.dumps(first[0]))  # on its way to a worker
    assert copy == first[0] and copy.seed == first[0].seed
    draws = []
    for index in (first[0], copy, first[1]):
        SeedAugmentation()(dict(sample_idx=index))
        draws.append((np.random.rand(), random.random(), torch.rand(1).item()))
    assert draws[0] == draws[1] != draws[2]
    SeedAugmentation()(dict(sample_idx=3))  # goes on where it was


def test_checkpoint_of_another_model(data, tmp_path):
    train(runner_config(data, tmp_path))
    cfg = runner_config(data, tmp_path, bbox_head=dict(num_stages=3))
    cfg.load_from = str(tmp_path / 'iter_2.pth')
    with pytest.raises(ValueError, match=r'another model:\n.*missing') as e:
        Runner.from_cfg(cfg).test()
    assert 'iter_2.pth' in str(e.value)
    cfg = runner_config(data, tmp_path / 'classes', bbox_head=dict(num_classes=5))
    cfg.load_from = str(tmp_path / 'iter_2.pth')
    with pytest.raises(ValueError, match='another model: it has 3 classes, the config 5'):
        Runner.from_cfg(cfg).test()
    # new parts may start fresh in training, but not be missing in testing
    cfg = runner_config(data, tmp_path / 'more', ['quality'])
    cfg.load_from = str(tmp_path / 'iter_2.pth')
    with pytest.raises(ValueError, match='quality'):
        Runner.from_cfg(cfg).test()
    cfg = runner_config(data, tmp_path / 'more', ['quality'])
    cfg.load_from = str(tmp_path / 'iter_2.pth')
    train(cfg)
    # and an ablation starts from a model with more parts
    cfg = runner_config(data, tmp_path / 'less')
    cfg.load_from = str(tmp_path / 'more/iter_2.pth')
    train(cfg)


@pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
def test_weights_alone_are_a_checkpoint(data, tmp_path, suffix):
    import safetensors.torch

    weights = build(tiny_config()).state_dict()
    path = tmp_path / f'weights.{suffix}'
    if suffix == 'pth':
        torch.save(weights, path)
    else:
        safetensors.torch.save_file(weights, path)
    cfg = runner_config(data, tmp_path)
    cfg.load_from = str(path)
    assert 'coco/bbox_mAP' in Runner.from_cfg(cfg).test()


class _Evil:
    def __reduce__(self):
        return print, ('executed',)


@pytest.mark.parametrize(
    'address, models',
    [
        ('torchvision://x', 'get_torchvision_models'),
        ('modelzoo://x', 'get_torchvision_models'),
        ('mmcls://x', 'get_mmcls_models'),
        ('openmmlab://x', 'get_external_models'),
        ('open-mmlab://x', 'get_external_models'),
        ('s3://x', None),
        ('petrel://x', None),
    ],
)
def test_no_scheme_of_mmengine_executes_a_pickle(address, models, tmp_path, monkeypatch, capsys):
    """Whichever list of addresses or storage it goes through."""
    weights = dict(state_dict={'backbone.a': torch.ones(1)})
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'hub'))
    monkeypatch.setenv('MMENGINE_HOME', str(tmp_path))
    for name, content in (('good', weights), ('evil', dict(state_dict={}, meta=_Evil()))):
        path = tmp_path / f'{name}.pth'
        torch.save(content, path)
        place = path.name if models == 'get_external_models' else path.as_uri()
        if models:
            monkeypatch.setattr(mmengine_checkpoint, models, lambda place=place: dict(x=place))
        else:
            storage = Mock(get=lambda _, path=path: path.read_bytes())
            monkeypatch.setattr(
                mmengine_checkpoint, 'get_file_backend', lambda *_, s=storage, **__: s
            )
        if name == 'good':
            found = CheckpointLoader.load_checkpoint(address)['state_dict']
            assert [*found.values()] == [1]
        else:
            with pytest.raises(ValueError, match='holds more than weights'):
                CheckpointLoader.load_checkpoint(address)
    assert 'executed' not in capsys.readouterr().out


def test_a_strangers_pickle_is_not_executed(tmp_path, capsys):
    torch.save(dict(state_dict={}, meta=_Evil()), tmp_path / 'x.pth')
    with pytest.raises(ValueError, match='more than weights'):
        load_checkpoint_file(tmp_path / 'x.pth')
    (tmp_path / 'y.pth').write_bytes(pickle.dumps(_Evil()))
    with pytest.raises(ValueError):
        load_checkpoint_file(tmp_path / 'y.pth')
    torch.save(dict(a=torch.zeros(99)), tmp_path / 'z.pth')
    whole = (tmp_path / 'z.pth').read_bytes()
    (tmp_path / 'z.pth').write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match='damaged'):
        load_checkpoint_file(tmp_path / 'z.pth')
    with pytest.raises(FileNotFoundError, match='nowhere.pth'):
        load_checkpoint_file(tmp_path / 'nowhere.pth')
    assert 'executed' not in capsys.readouterr().out


def test_nan_stops_before_the_weights_change(data, tmp_path):
    cfg = runner_config(data, tmp_path)
    cfg.experiment_name = 'nan'
    runner = Runner.from_cfg(cfg)

    class Poison(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            runner.model.bbox_head.head_series[-1].class_logits.bias.data[0] = float('inf')
            self.before = runner.model.neck.fpn_convs[0].conv.weight.clone()

    poison = Poison()
    runner.register_hook(poison)
    with pytest.raises(FloatingPointError, match='loss_cls.*not finite'):
        runner.train()
    after = runner.model.neck.fpn_convs[0].conv.weight
    assert torch.equal(after, poison.before)


def broken_data(data, tmp_path, change):
    """A copy of the annotations with a change."""
    content = json.loads((data / 'train.json').read_text())
    change(content)
    path = tmp_path / 'broken.json'
    path.write_text(json.dumps(content))
    cfg = runner_config(data, tmp_path)
    cfg.train_dataloader.dataset.ann_file = str(path)
    return cfg


def test_missing_annotation_file(data, tmp_path):
    cfg = runner_config(data, tmp_path)
    cfg.train_dataloader.dataset.ann_file = 'nowhere.json'
    with pytest.raises(FileNotFoundError, match='nowhere.json.*data_root'):
        train(cfg)


def test_unknown_category(data, tmp_path):
    cfg = broken_data(data, tmp_path, lambda c: c['categories'].append(dict(id=9, name='mauve')))
    with pytest.raises(ValueError, match=r"'mauve'.*metainfo.classes"):
        train(cfg)
    cfg = broken_data(data, tmp_path, lambda c: c['categories'].pop())
    with pytest.raises(ValueError, match="no categories .'blue'"):
        train(cfg)


def test_classes_in_another_order_than_the_file(data, tmp_path):
    from mmdiffdet.registry import DATASETS

    cfg = runner_config(data, tmp_path).train_dataloader.dataset
    plain = DATASETS.build(cfg)
    cfg.metainfo = dict(classes=('blue', 'red', 'green'))
    other = DATASETS.build(cfg)
    for i in range(len(plain)):
        a = plain.get_data_info(i)['instances'][0]['bbox_label']
        b = other.get_data_info(i)['instances'][0]['bbox_label']
        assert plain.metainfo['classes'][a] == other.metainfo['classes'][b]
        name = plain.metainfo['classes'][a]
        category = other.cat_ids[b]
        assert category == 1 + ('red', 'green', 'blue').index(name)


def test_number_of_classes_differs_from_the_data(data, tmp_path):
    cfg = runner_config(data, tmp_path, bbox_head=dict(num_classes=4))
    with pytest.raises(AssertionError, match='num_classes'):
        train(cfg)


def test_image_that_cannot_be_decoded(data, tmp_path):
    (tmp_path / 'bad.png').write_bytes(b'no image')
    cfg = broken_data(
        data,
        tmp_path,
        lambda c: [image.update(file_name=str(tmp_path / 'bad.png')) for image in c['images']],
    )
    with pytest.raises(ValueError, match='bad.png cannot be decoded'):
        train(cfg)


def test_images_without_objects_train(data, tmp_path):
    cfg = broken_data(data, tmp_path, lambda c: c.update(annotations=[]))
    cfg.train_dataloader.dataset.filter_cfg = dict(filter_empty_gt=False)
    train(cfg)
    assert (tmp_path / 'iter_2.pth').exists()


EVERYTHING = dict(
    stage(attention_parts=[dict(type='GeometryBias', mode='mlp')]), parts=['geo_feat', 'quality']
)


def test_parts_by_module():
    config = tiny_config(**dict(EVERYTHING, parts=['geo_feat', 'quality', 'd3pm']))
    config.bbox_head.stage.attention_parts[0].name = 'near'
    parts = parts_of(build(config))
    for name, part in {
        'backbone.conv1.weight': 'backbone',
        'neck.fpn_convs.0.conv.weight': 'base',
        'bbox_head.head_series.0.attention_parts.near.mlp.0.bias': 'geometry',
        'bbox_head.head_series.0.position_parts.geometry_feature.gate': 'geometry',
        'bbox_head.head_series.1.output_parts.quality.mlp.0.bias': 'quality',
        'bbox_head.head_series.1.feature_parts.label_state.gate': 'base',
        'bbox_head.head_series.1.linear1.weight': 'base',
    }.items():
        assert parts[name] == part


def optimizer_of(model, **paramwise):
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.build(
        dict(
            type='PartOptimWrapperConstructor',
            optim_wrapper_cfg=dict(
                type='PartOptimWrapper',
                clip_grad=dict(max_norm=1.0),
                optimizer=dict(type='SGD', lr=0.1, weight_decay=0.1),
            ),
            paramwise_cfg=paramwise,
        )
    )
    return constructor(model)


def test_learning_rate_multipliers():
    model = build(tiny_config(**EVERYTHING))
    wrapper = optimizer_of(model, geometry_lr_mult=25, quality_lr_mult=2, backbone_lr_mult=0.5)
    rates = {g['part']: g['lr'] for g in wrapper.optimizer.param_groups}
    assert rates == pytest.approx(dict(backbone=0.05, geometry=2.5, quality=0.2, base=0.1))
    trained = sum(len(g['params']) for g in wrapper.optimizer.param_groups)
    assert trained == sum(p.requires_grad for p in model.parameters())


def test_a_frozen_backbone_does_not_change(data, tmp_path):
    cfg = runner_config(data, tmp_path)
    cfg.model.backbone.norm_eval = False
    cfg.optim_wrapper.optimizer.lr = 0.1
    cfg.optim_wrapper.paramwise_cfg = dict(backbone_lr_mult=0)
    cfg.randomness = dict(seed=4)
    runner = train(cfg)
    assert not any(p.requires_grad for p in runner.model.backbone.parameters())
    assert not runner.model.train().backbone.training
    after = weights_of(tmp_path / 'iter_2.pth')
    # the same backbone after a run that could not have changed it
    cfg = runner_config(data, tmp_path / 'still')
    cfg.model.backbone.norm_eval = False
    cfg.randomness = dict(seed=4)
    cfg.optim_wrapper.optimizer.lr = 0.0
    cfg.optim_wrapper.optimizer.weight_decay = 0.0
    cfg.optim_wrapper.paramwise_cfg = dict(backbone_lr_mult=0)
    train(cfg)
    before = weights_of(tmp_path / 'still/iter_2.pth')
    for key, value in before.items():
        if key.startswith('backbone.'):
            assert torch.equal(after[key], value), key
    assert any(not torch.equal(after[key], value) for key, value in before.items())


def test_gradients_are_clipped_by_part():
    MessageHub.get_instance('clip')
    model = build(tiny_config(**EVERYTHING))
    wrapper = optimizer_of(model)
    parts = parts_of(model)
    sizes = dict(geometry=1000.0, quality=1e-3, base=10.0, backbone=10.0)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.grad = torch.full_like(parameter, sizes[parts[name]])
    wrapper._clip_grad()
    squares = dict(geometry=0.0, quality=0.0, base=0.0)
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            part = parts[name]
            squares['base' if part == 'backbone' else part] += (
                parameter.grad.double().square().sum().item()
            )
    assert squares['geometry'] ** 0.5 == pytest.approx(1, abs=1e-3)
    assert squares['base'] ** 0.5 == pytest.approx(1, abs=1e-3)
    assert 0 < squares['quality'] ** 0.5 < 0.2  # small ones are left alone


def test_three_norms_are_logged(data, tmp_path):
    runner = train(runner_config(data, tmp_path, **EVERYTHING))
    scalars = runner.message_hub.log_scalars
    for name in ('grad_norm', 'grad_norm_geometry', 'grad_norm_quality'):
        assert scalars[f'train/{name}'].current() > 0


@pytest.mark.parametrize(
    'bad, message',
    [(dict(geometry_lr_mult=-1), 'must be >= 0'), (dict(geometri_lr_mult=2), 'geometry_lr_mult')],
)
def test_bad_multipliers(bad, message):
    with pytest.raises(ValueError, match=message):
        optimizer_of(build(tiny_config()), **bad)


def test_geometry_warmup(data, tmp_path):
    hook = HOOKS.build(dict(type='GeometryWarmupHook', start=3, warmup=4))
    assert [hook.factor(i) for i in range(8)] == [0, 0, 0, 0.25, 0.5, 0.75, 1, 1]
    assert GeometryWarmupHook().factor(0) == 1
    cfg = runner_config(data, tmp_path, ['geo_feat'])
    cfg.custom_hooks.append(dict(type='GeometryWarmupHook', start=1))
    runner = train(cfg)
    part = runner.model.bbox_head.head_series[0].position_parts['geometry_feature']
    assert part.train_factor == 1
    cfg = runner_config(data, tmp_path)
    cfg.custom_hooks.append(dict(type='GeometryWarmupHook', start=1))
    with pytest.raises(ValueError, match='no GeometryFeature'):
        train(cfg)
    with pytest.raises(ValueError, match='>= 0'):
        GeometryWarmupHook(start=-1)


def test_warmup_factor_counts_in_training_only():
    model = build(
        tiny_config(
            **stage(feature_parts=[dict(type='GeometryFeature', schedule=dict(type='constant'))])
        )
    )
    part = model.bbox_head.head_series[0].feature_parts['geometry_feature']
    torch.nn.init.normal_(part.absolute[-1].weight)
    from mmdiffdet.models import StageContext

    context = StageContext(
        torch.zeros(1, 2, 16), torch.tensor([[[0.0, 0, 9, 9], [5, 5, 40, 40]]]), torch.tensor([100])
    )
    part.train_factor = 0.0
    assert (part.train()(context) == 0).all()
    assert (part.eval()(context) != 0).any()


def test_federated_frequencies_come_from_the_data(data, tmp_path):
    cfg = runner_config(data, tmp_path, criterion=dict(federated=dict(type='FederatedClasses')))
    cfg.custom_hooks.append(dict(type='FederatedFrequencyHook'))
    runner = train(cfg)
    assert runner.model.criterion.federated.class_frequency == [2, 2, 2]
    cfg = runner_config(data, tmp_path)
    cfg.custom_hooks.append(dict(type='FederatedFrequencyHook'))
    with pytest.raises(ValueError, match='FederatedClasses'):
        train(cfg)


def test_more_objects_than_proposals_are_told_once(tmp_path):
    """Through a wrapper, less what is ignored, and training goes on."""
    root = write_coco(tmp_path / 'data')
    content = json.loads((root / 'train.json').read_text())
    first = content['annotations'][0]
    for image, count in ((0, 4), (1, 2), (3, 1), (2, 1)):  # of image 3 as many as proposals
        content['annotations'] += [
            dict(first, id=100 * image + i + 10, image_id=image) for i in range(count)
        ]
    content['annotations'][-1]['iscrowd'] = 1
    (root / 'train.json').write_text(json.dumps(content))
    cfg = runner_config(root, tmp_path, train_cfg=dict(num_proposals=2))
    cfg.train_dataloader.dataset = dict(
        type='RepeatDataset', times=3, dataset=cfg.train_dataloader.dataset
    )
    cfg.experiment_name = 'crowded'
    runner = Runner.from_cfg(cfg)
    with patch.object(runner.logger, 'warning') as warning:
        runner.train()
    told = [call.args[0] for call in warning.call_args_list if 'proposals' in call.args[0]]
    assert told == [
        '2 of 6 training images have more objects than the model has '
        'proposals (2), at most 5; objects beyond that are not learnt from. '
        'Raise model.train_cfg.num_proposals (and '
        'model.test_cfg.num_proposals)'
    ]
    assert runner.message_hub.log_scalars['train/loss'].current() > 0


def test_bfloat16_training(data, tmp_path):
    cfg = runner_config(data, tmp_path, **EVERYTHING)
    cfg.optim_wrapper.type = 'PartBf16OptimWrapper'
    runner = train(cfg)
    loss = runner.message_hub.log_scalars['train/loss'].current()
    plain = train(runner_config(data, tmp_path / 'plain', **EVERYTHING))
    expected = plain.message_hub.log_scalars['train/loss'].current()
    assert loss != expected
    assert loss == pytest.approx(expected, rel=0.05)


def test_voc_layout_and_degenerate_boxes(tmp_path):
    from mmdiffdet.registry import DATASETS

    for folder in ('Annotations', 'ImageSets/Main', 'JPEGImages'):
        (tmp_path / folder).mkdir(parents=True)
    write_coco(tmp_path / 'coco')
    (tmp_path / 'coco/images/0.png').rename(tmp_path / 'JPEGImages/a.jpg')
    box = (
        '<object><name>{}</name><difficult>0</difficult><bndbox>'
        '<xmin>{}</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax>'
        '</bndbox></object>'
    )
    xml = '<annotation><size><width>64</width><height>48</height></size>{}</annotation>'
    path = tmp_path / 'Annotations/a.xml'
    path.write_text(xml.format(box.format('cell', 3) + box.format('cell', 30)))
    (tmp_path / 'ImageSets/Main/train.txt').write_text('a\n')
    cfg = dict(
        type='VOCDataset',
        data_root=str(tmp_path),
        ann_file='ImageSets/Main/train.txt',
        data_prefix=dict(sub_data_root=''),
        metainfo=dict(classes=('cell',)),
        lazy_init=False,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        dataset = DATASETS.build(cfg)
    assert ['a.xml: left out 1 box(es)' in str(w.message) for w in caught].count(True) == 1
    assert len(dataset.get_data_info(0)['instances']) == 1
    cfg['metainfo'] = dict(classes=('nucleus',))
    with pytest.raises(ValueError, match="'cell'.*metainfo.classes"):
        DATASETS.build(cfg)
    path.write_text('<annotation>')
    with pytest.raises(ValueError, match='a.xml: not well-formed'):
        DATASETS.build(cfg)
    path.unlink()
    with pytest.raises(FileNotFoundError, match='a.xml'):
        DATASETS.build(cfg)


def test_config_of_a_run_can_be_read_again(data, tmp_path):
    runner = train(runner_config(data, tmp_path))
    dumped = next(tmp_path.glob('*.py'))
    again = Config.fromfile(dumped)
    assert again.model == runner.cfg.model


def test_bfloat16_without_instructions_is_told_once(monkeypatch):
    """An emulated product takes many times as long as float32's."""
    model = build(tiny_config())
    cfg = Config(dict(optim_wrapper=dict(type='PartOptimWrapper')))
    for there in (True, False):
        precision.warn_if_emulated.cache_clear()
        monkeypatch.setattr(precision, 'has_bf16', lambda there=there: there)
        monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
        with patch.object(precision, 'print_log') as told:
            with precision.in_precision(model, 'fp32'):
                pass
            told.assert_not_called()
            for _ in range(2):
                with precision.in_precision(model, 'bf16'):
                    pass
            use_amp(cfg, True)
        assert told.call_count == (not there)
    assert 'Leave out --amp' in told.call_args.args[0]
    precision.warn_if_emulated.cache_clear()


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_a_weight_that_is_not_finite_stops_everybody(value, data, tmp_path):
    """Testing, starting from it, giving it away: none goes on with AP 0."""
    model = build(tiny_config())
    weights = model.state_dict()
    weights['bbox_head.head_series.1.norm2.weight'][3] = value
    path = tmp_path / 'diverged.pth'
    torch.save(dict(state_dict=weights), path)
    message = r'diverged.pth: 1 weights are not finite.*bbox_head.head_series.1.norm2.weight'
    for run in ('train', 'test'):
        cfg = runner_config(data, tmp_path / run)
        cfg.load_from = str(path)
        cfg.experiment_name = f'{tmp_path.name}_{run}'
        with pytest.raises(ValueError, match=message):
            getattr(Runner.from_cfg(cfg), run)()
    with pytest.raises(ValueError, match=message):
        load_weights(model, path, 'no way out')
    finalize = runpy.run_path(str(ROOT / 'tools/finalize_checkpoint.py'))['finalize']
    with pytest.raises(ValueError, match=message):
        finalize(path, tmp_path / 'given.safetensors')
    assert not (tmp_path / 'given.safetensors').exists()


def test_may_start_fresh_is_a_list():
    """Text would be taken letter by letter, and the guard be off."""
    with pytest.raises(ValueError, match=r"e.g. \['neck'\]"):
        HOOKS.build(dict(type='CheckpointGuardHook', may_start_fresh='neck'))
