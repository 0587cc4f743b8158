"""Every recipe builds, trains two iterations and tests an image."""

import re

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from tiny import ROOT, shrink_model, shrink_scales, write_coco

from mmdiffdet.config.file import read_config
from mmdiffdet.engine.trainer import use_amp
from mmdiffdet.registry import HOOKS, MODELS
from mmdiffdet.utils import leaf_datasets

CONFIGS = sorted(
    path.relative_to(ROOT / 'configs')
    for path in (ROOT / 'configs').rglob('*.py')
    if '_base_' not in path.parts
)
# the files of the other seeds are compared with these
TRAINED = [c for c in CONFIGS if not re.search(r'seed[1-9]$', c.stem)]
CLASSES = ('red', 'green', 'blue')
# FSDP wants several processes, see test_scale.py
PARTS = sorted(p.stem for p in (ROOT / 'configs/_base_/parts').glob('*.py') if p.stem != 'fsdp')
ALL_PARTS = ['d3pm_quality', 'geo_bias', 'geo_feat', 'aniso', 'qfl', 'topo', 'amp_ema']


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return write_coco(tmp_path_factory.mktemp('coco'))


def shrink(cfg, data):
    shrink_model(cfg.model)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
        pipeline = leaf_datasets(loader.dataset)[0].pipeline
        shrink_scales(pipeline)
        loader.dataset = dict(
            type='CocoDataset',
            data_root=f'{data}/',
            ann_file='train.json',
            data_prefix=dict(img='images/'),
            metainfo=dict(classes=CLASSES),
            test_mode=loader is not cfg.train_dataloader,
            pipeline=pipeline,
        )
    cfg.test_dataloader.dataset.indices = 1
    cfg.val_evaluator = cfg.test_evaluator = dict(
        type='CocoMetric', metric='bbox', ann_file=str(data / 'train.json')
    )
    cfg.train_cfg.max_iters = 2
    cfg.train_cfg.val_interval = 100
    cfg.load_from = None
    use_amp(cfg, False)


def give_teacher(cfg, path):
    """A checkpoint for the hooks that want one."""
    for hook in cfg.custom_hooks:
        if 'teacher' in hook:
            torch.save(MODELS.build(cfg.model).state_dict(), path)
            hook.teacher.checkpoint = str(path)


def check(cfg, data, tmp_path, name):
    """Shrink, train, test."""
    init_default_scope('mmdiffdet')
    shrink(cfg, data)
    give_teacher(cfg, tmp_path / 'teacher.pth')
    cfg.work_dir = str(tmp_path)
    cfg.experiment_name = name
    runner = Runner.from_cfg(cfg)
    runner.train()
    loss = runner.message_hub.log_scalars['train/loss'].current()
    assert 0 < loss < 1000
    metrics = runner.test()
    assert 0 <= metrics['coco/bbox_mAP'] <= 1
    with torch.no_grad():
        [found] = runner.model.test_step(next(iter(runner.test_dataloader)))
    assert len(found.pred_instances) > 0
    assert found.pred_instances.scores.isfinite().all()


@pytest.mark.parametrize('name', TRAINED, ids=str)
def test_config(name, data, tmp_path):
    cfg = Config.fromfile(ROOT / 'configs' / name)
    check(cfg, data, tmp_path, str(name).replace('/', '_'))


def recipe(*parts):
    # boxes of another data set than the demo's, which may not be there
    options = (
        {'model.box_codec.noise_mean': (0, 0, -1, -1)}
        if {'prior', 'flow_prior'} & {*parts}
        else None
    )
    return read_config('configs/demo/demo.py', options=options, parts=parts)


@pytest.mark.parametrize('parts', [*([p] for p in PARTS), ALL_PARTS], ids='+'.join)
def test_part(parts, data, tmp_path):
    check(recipe(*parts), data, tmp_path, f'part_{"+".join(parts)}')


def test_parts_are_switched_on():
    stage = recipe('d3pm_quality', 'geo_bias').model.bbox_head.stage
    assert stage.feature_parts[0].type == 'LabelEmbedding'
    assert stage.output_parts[0].type == 'QualityHead'
    assert stage.attention_parts[0].mode == 'distance'
    assert 'alpha' not in recipe('qfl').model.criterion.loss_cls
    assert recipe('guidance').model.sampler.guidance.scale > 0
    assert recipe('guidance').model.test_cfg.quality_power == 1
    no_attention = recipe('topology_none').model.bbox_head.stage.interaction
    assert no_attention.type == 'NoInteraction'
    assert recipe('aniso').model.box_codec.noise_sigma[2] > 1


def test_parts_and_hooks_are_added_to_those_that_are_there(tmp_path):
    MODELS.register_module(name='Mine', module=torch.nn.Identity, force=True)
    HOOKS.register_module(name='MyHook', module=Hook, force=True)
    mine = tmp_path / 'mine.py'
    mine.write_text(
        'part = dict(\n'
        "    model=dict(bbox_head=dict(stage=dict(attention_parts=[dict(type='Mine')]))),\n"
        "    custom_hooks=[dict(type='MyHook')],\n"
        ')\n'
    )
    cfg = read_config(
        'configs/bccd/bccd_20to1.py', 2, {'model.box_codec.scale': 1.0}, ['geo_bias', str(mine)]
    )
    parts = cfg.model.bbox_head.stage.attention_parts
    assert [p.type for p in parts] == ['GeometryBias', 'Mine']
    assert [h.type for h in cfg.custom_hooks] == ['SamplerDistillHook', 'MyHook']
    assert cfg.model.box_codec.scale == 1.0
    assert cfg.work_dir == 'work_dirs/bccd_20to1+geo_bias+mine_seed2'


@pytest.mark.parametrize(
    'parts, message',
    [
        (['d3pmm'], 'd3pmm: there is no such part; choose from amp_ema, aniso, d3pm'),
        (['qfl', 'qfl'], '--part qfl is given twice'),
        ([str(ROOT / 'configs/demo/demo.py')], 'sets no `part`'),
    ],
)
def test_bad_parts(parts, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        recipe(*parts)


def test_a_part_of_two_kinds_is_told():
    """The same part twice in a stage, from two fragments."""
    with pytest.raises(ValueError, match='two parts of a stage are named'):
        MODELS.build(recipe('geo_bias', 'geo_bias_knn').model)


@pytest.mark.parametrize(
    'config, start',
    [
        ('baseline/repro10k', None),
        ('warmstart/warmstart', 'work_dirs/repro10k_seed{}/iter_10000.pth'),
        ('distill/no_teacher', 'work_dirs/warmstart_seed{}/iter_2500.pth'),
        ('distill/20to1', 'work_dirs/warmstart_seed{}/iter_2500.pth'),
        ('geo_feat/geo_feat', 'work_dirs/20to1_seed{}/iter_2500.pth'),
    ],
)
def test_seeds_differ_in_seed_and_start(config, start):
    """And geometry's learning rate, which the reference's notes give for each."""
    texts = set()
    for seed in range(5):
        own = f'_seed{seed}' if config == 'distill/20to1' else ''
        cfg = read_config(f'configs/{config}{own}.py', seed)
        assert cfg.randomness.seed == seed
        assert cfg.work_dir == f'work_dirs/{config.split("/")[1]}_seed{seed}'
        assert cfg.load_from == (start and start.format(seed))
        if own:
            assert cfg.custom_hooks[0].teacher.checkpoint == cfg.load_from
        if config == 'geo_feat/geo_feat':
            paramwise = cfg.optim_wrapper.paramwise_cfg
            assert paramwise.geometry_lr_mult == (25, 150, 150, 25, 150)[seed]
            assert paramwise.backbone_lr_mult == 0
            paramwise.geometry_lr_mult = 0
        text = str(cfg.to_dict()).replace(f'seed{seed}', 'seed')
        texts.add(text.replace(f"'seed': {seed}", "'seed': 0"))
    assert len(texts) == 1


def test_the_chain_fits_together():
    """Each training starts from a checkpoint that the one before writes."""
    for name in ('20to4', '4to2', '2to1', 'consistency', '20to1_seed0'):
        cfg = Config.fromfile(ROOT / f'configs/distill/{name}.py')
        folder, file = cfg.load_from.split('/')[1:]
        folder = folder.replace('warmstart_seed0', 'warmstart')
        (before,) = (ROOT / 'configs').rglob(f'{folder}.py')
        iters = Config.fromfile(before).train_cfg.max_iters
        assert file == f'iter_{iters}.pth'
        assert cfg.optim_wrapper.optimizer.lr == 2.5e-6


def test_parts_that_share_a_piece_have_it_once():
    cfg = recipe('d3pm_quality', 'guidance')
    stage = cfg.model.bbox_head.stage
    assert [p.type for p in stage.output_parts] == ['QualityHead']
    assert cfg.model.sampler.guidance.scale > 0 and cfg.model.label_scheduler
    for config in ('warmstart/warmstart', 'distill/20to1_seed0'):
        cfg = read_config(f'configs/{config}.py', parts=['guidance'])
        init_default_scope('mmdiffdet')
        shrink_model(cfg.model)
        MODELS.build(cfg.model)


@pytest.mark.parametrize(
    'path', ['/nowhere/configs/demo/demo.py', 'mine/configs/demo/demo.py', 'myconfigs/demo/demo.py']
)
def test_a_path_of_ones_own_is_not_taken_for_ours(path):
    with pytest.raises(FileNotFoundError, match='does not exist'):
        read_config(path)
