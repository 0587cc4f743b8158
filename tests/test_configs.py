"""Every recipe builds, trains two iterations and tests an image."""

import re

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from tiny import ROOT, shrink_model, shrink_scales, write_coco

from mmdiffdet.datasets.checks import leaf_datasets
from mmdiffdet.engine.trainer import use_amp
from mmdiffdet.registry import MODELS

CONFIGS = sorted(
    path.relative_to(ROOT / 'configs')
    for path in (ROOT / 'configs').rglob('*.py')
    if '_base_' not in path.parts
)
# the files of the other seeds are compared with these
TRAINED = [c for c in CONFIGS if not re.search(r'seed[1-9]$', c.stem)]
CLASSES = ('red', 'green', 'blue')


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


@pytest.mark.parametrize('name', TRAINED, ids=str)
def test_config(name, data, tmp_path):
    cfg = Config.fromfile(ROOT / 'configs' / name)
    init_default_scope('mmdiffdet')
    shrink(cfg, data)
    give_teacher(cfg, tmp_path / 'teacher.pth')
    cfg.work_dir = str(tmp_path)
    cfg.experiment_name = str(name).replace('/', '_')
    runner = Runner.from_cfg(cfg)
    runner.train()
    loss = runner.message_hub.log_scalars['train/loss'].current()
    assert 0 < loss < 1000
    metrics = runner.test()
    assert -1 <= metrics['coco/bbox_mAP'] <= 1


def test_there_are_recipes_for_all_parts():
    parts = {path.stem for path in CONFIGS if path.parts[0] == 'parts'}
    assert {
        'd3pm',
        'label_state',
        'quality',
        'guidance',
        'geo_bias_distance',
        'geo_bias_iou',
        'geo_bias_mlp',
        'geo_bias_knn',
        'geo_feat',
        'aniso',
        'qfl',
        'topo',
        'topology_none',
        'mvp',
    } <= parts


def recipe(name):
    return Config.fromfile(ROOT / f'configs/parts/{name}.py').model


def test_recipes_switch_their_part_on():
    stage = recipe('mvp').bbox_head.stage
    assert stage.feature_parts[0].type == 'LabelEmbedding'
    assert stage.output_parts[0].type == 'QualityHead'
    assert stage.attention_parts[0].mode == 'mlp'
    assert recipe('mvp').criterion.loss_cls.type == 'QualityFocalLoss'
    assert 'alpha' not in recipe('qfl').criterion.loss_cls
    assert recipe('guidance').sampler.guidance.scale > 0
    assert recipe('guidance').test_cfg.quality_power == 1
    assert recipe('topology_none').bbox_head.stage.interaction.type == 'NoInteraction'
    assert recipe('aniso').box_codec.noise_sigma[2] > 1


@pytest.mark.parametrize(
    'stage, paths',
    [
        ('baseline/repro10k', []),
        ('warmstart/warmstart', ['work_dirs/repro10k_seed{}/iter_10000.pth']),
        ('distill/20to1', ['work_dirs/warmstart_seed{}/iter_2500.pth']),
        ('geo_feat/geo_feat', ['work_dirs/20to1_seed{}/iter_2500.pth']),
    ],
)
def test_seeds_differ_in_seed_and_start(stage, paths):
    """And geometry's learning rate, which the record gives for each."""
    texts = set()
    for seed in range(5):
        cfg = Config.fromfile(ROOT / f'configs/{stage}_seed{seed}.py')
        assert cfg.randomness.seed == seed
        for path in paths:
            assert cfg.load_from == path.format(seed)
        if stage.startswith('distill'):
            assert cfg.custom_hooks[0].teacher.checkpoint == cfg.load_from
        if stage.startswith('geo_feat'):
            paramwise = cfg.optim_wrapper.paramwise_cfg
            assert paramwise.geometry_lr_mult == (25, 150, 150, 25, 150)[seed]
            assert paramwise.backbone_lr_mult == 0
            paramwise.geometry_lr_mult = 0
        text = str(cfg.to_dict()).replace(f'seed{seed}', 'seed')
        texts.add(text.replace(f"'seed': {seed}", "'seed': 0"))
    assert len(texts) == 1


def test_the_chain_fits_together():
    """Each stage starts from a checkpoint that the stage before writes."""
    for name in ('20to4', '4to2', '2to1', 'consistency', '20to1_seed0'):
        cfg = Config.fromfile(ROOT / f'configs/distill/{name}.py')
        folder, file = cfg.load_from.split('/')[1:]
        (before,) = (ROOT / 'configs').rglob(f'{folder}.py')
        iters = Config.fromfile(before).train_cfg.max_iters
        assert file == f'iter_{iters}.pth'
        assert cfg.optim_wrapper.optimizer.lr == 2.5e-6
