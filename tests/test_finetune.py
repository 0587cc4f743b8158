"""From somebody's checkpoint to classes of one's own; trainings by epochs."""

import json
import logging
import sys
from unittest.mock import patch

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.runner.checkpoint import save_checkpoint
from tiny import ROOT, build, runner_config, tiny_config, write_coco

from mmdiffdet.config.file import read_config
from mmdiffdet.datasets import SeededDefaultSampler
from mmdiffdet.engine import load_checkpoint_file
from mmdiffdet.engine.checkpoint_guard_hook import class_weights
from mmdiffdet.engine.epochs import fit_sampler, use_epochs
from mmdiffdet.engine.finetune import use_schedule
from mmdiffdet.engine.trainer import build_trainer, require_packages

PARTS = ['d3pm']


@pytest.fixture
def data(tmp_path):
    return write_coco(tmp_path / 'data')


def command(config, *arguments):
    """``tools/train.py`` in this process; its runner."""
    import runpy

    runners = []

    def keep(cfg):
        cfg.experiment_name = cfg.work_dir.replace('/', '_')
        runners.append(build_trainer(cfg))
        return runners[-1]

    argv = ['train.py', str(config), *map(str, arguments)]
    with patch.object(sys, 'argv', argv), patch('mmdiffdet.engine.trainer.build_trainer', keep):
        runpy.run_path(str(ROOT / 'tools/train.py'), run_name='__main__')
    return runners[-1]


def written(cfg, tmp_path):
    path = tmp_path / 'config.py'
    cfg.dump(path)
    return path


def source(path, parts=(), classes=('a', 'b', 'c', 'd', 'e'), **bbox_head):
    """A checkpoint of a model for other classes."""
    bbox_head['num_classes'] = len(classes)
    model = build(tiny_config(parts, bbox_head=bbox_head), seed=7)
    meta = dict(dataset_meta=dict(classes=classes))
    save_checkpoint(dict(state_dict=model.state_dict(), meta=meta), str(path))
    return model.state_dict()


def test_weights_of_the_classes(tmp_path):
    config = tiny_config(PARTS)
    found = class_weights(config, build(config).state_dict())
    assert {name.split('.', 3)[-1] for name in found} == {
        'class_logits.weight',
        'class_logits.bias',
        'feature_parts.label_state.embed.weight',
    }


@pytest.mark.parametrize('ema', [False, True])
def test_finetune_to_other_classes(ema, data, tmp_path, caplog):
    """Those of the classes fresh and listed, all others taken over."""
    before = source(tmp_path / 'coco.pth', PARTS)
    cfg = runner_config(data, tmp_path / 'work', PARTS)
    cfg.optim_wrapper.optimizer.lr = 0.0
    cfg.optim_wrapper.optimizer.weight_decay = 0.0
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint='nowhere.pth')
    if ema:
        cfg.custom_hooks = [dict(type='EMAHook', strict_load=True)]
    with caplog.at_level(logging.INFO):
        runner = command(written(cfg, tmp_path), '--finetune', tmp_path / 'coco.pth', '--epochs', 2)
    assert (runner.epoch, runner.iter) == (2, 6)
    after = load_checkpoint_file(tmp_path / 'work/epoch_2.pth')['state_dict']
    fresh = class_weights(cfg.model, after)
    assert len(fresh) == 6
    for name, value in after.items():
        if name not in fresh:
            assert torch.equal(value, before[name]), name
    log = next((tmp_path / 'work').rglob('*.log')).read_text()
    assert '6 weights start fresh' in log
    assert 'head_series.1.class_logits.bias' in log
    # tested with its own classes
    test = runner_config(data, tmp_path / 'test', PARTS)
    test.load_from = str(tmp_path / 'work/epoch_2.pth')
    test.experiment_name = f'{tmp_path.name}_test'
    assert 'coco/bbox_mAP' in Runner.from_cfg(test).test()


@pytest.mark.parametrize(
    'classes, fresh',
    [(('red', 'green', 'blue'), 0), (('red', 'blue', 'green'), 4), (None, 4)],
)
def test_as_many_classes(classes, fresh, data, tmp_path):
    """The same ones go on; others, or unknown ones, do not by accident."""
    model = build(tiny_config(), seed=7)
    meta = dict(dataset_meta=dict(classes=classes)) if classes else {}
    save_checkpoint(dict(state_dict=model.state_dict(), meta=meta), str(tmp_path / 'a.pth'))
    cfg = runner_config(data, tmp_path / 'work')
    cfg.load_from = str(tmp_path / 'a.pth')
    cfg.default_hooks.checkpoint_guard.classes_start_fresh = True
    cfg.experiment_name = f'{tmp_path.name}'
    runner = Runner.from_cfg(cfg)
    with patch.object(runner.logger, 'info') as told:
        runner.train()
    lines = [str(call.args[0]) for call in told.call_args_list]
    assert any(f'{fresh} weights start fresh' in line for line in lines) == bool(fresh)


def test_all_else_must_fit(data, tmp_path):
    source(tmp_path / 'wide.pth', feat_channels=32, roi_extractor=dict(out_channels=32))
    cfg = runner_config(data, tmp_path / 'work')
    with pytest.raises((ValueError, SystemExit), match='of another model'):
        command(written(cfg, tmp_path), '--finetune', tmp_path / 'wide.pth')
    source(tmp_path / 'five.pth')
    cfg = runner_config(data, tmp_path / 'work')
    with pytest.raises((ValueError, SystemExit), match='--finetune of tools/train.py'):
        command(written(cfg, tmp_path), '--cfg-options', f'load_from={tmp_path}/five.pth')
    with pytest.raises(SystemExit, match='--finetune: checkpoint .*nowhere.pth does not exist'):
        command(written(cfg, tmp_path), '--finetune', 'nowhere.pth')


def test_epochs_stretch_the_schedule():
    cfg = read_config(str(ROOT / 'configs/baseline/repro10k.py'))  # drops at 8000 and 9500
    use_epochs(cfg, 40)
    warmup, drop = cfg.param_scheduler
    assert warmup.by_epoch is False and drop.by_epoch is True
    assert (drop.begin, drop.end, drop.milestones) == (0, 40, [32, 38])
    assert cfg.default_hooks.checkpoint.interval == 1 and cfg.log_processor.by_epoch
    use_epochs(cfg, 20)  # of epochs already
    assert cfg.param_scheduler[1].milestones == [16, 19]
    cfg = read_config(str(ROOT / 'configs/demo/demo.py'))
    cfg.param_scheduler = dict(type='CosineAnnealingLR', T_max=cfg.train_cfg.max_iters)
    use_epochs(cfg, 3)
    assert cfg.param_scheduler.T_max == 3
    with pytest.raises(ValueError, match='at least 1'):
        use_epochs(cfg, 0)


def test_epochs_end(data, tmp_path):
    """Each image once; a resumed training ends at the same weights."""
    cfg = runner_config(data, tmp_path / 'whole')
    use_epochs(cfg, 2)
    runner = command(written(cfg, tmp_path))
    assert type(runner.train_dataloader.sampler) is SeededDefaultSampler
    assert runner.iter == 6
    whole = load_checkpoint_file(tmp_path / 'whole/epoch_2.pth')['state_dict']
    for epochs, resume in ((1, ()), (2, ('--resume',))):
        cfg = runner_config(data, tmp_path / 'half')
        use_epochs(cfg, 2)
        cfg.train_cfg.max_epochs = epochs
        runner = command(written(cfg, tmp_path), *resume)
    assert runner.epoch == 2
    half = load_checkpoint_file(tmp_path / 'half/epoch_2.pth')['state_dict']
    for name, value in whole.items():
        assert torch.equal(half[name], value), name


def test_seeds_of_an_epoch():
    sampler = SeededDefaultSampler(range(6), seed=3)
    first = [(int(i), i.seed) for i in sampler]
    assert [(int(i), i.seed) for i in sampler] == first
    assert sorted(i for i, _ in first) == list(range(6))
    sampler.set_epoch(1)
    assert not {seed for _, seed in first} & {i.seed for i in sampler}


def test_samplers_without_end():
    def config(sampler, **loop):
        return Config(dict(train_cfg=loop, train_dataloader=dict(sampler=dict(type=sampler))))

    for loop in (dict(type='EpochBasedTrainLoop'), dict(by_epoch=True)):
        cfg = config('SeededInfiniteSampler', **loop)
        fit_sampler(cfg)
        assert cfg.train_dataloader.sampler.type == 'SeededDefaultSampler'
        with pytest.raises(ValueError, match='InfiniteSampler never ends; set train_dataloader'):
            fit_sampler(config('InfiniteSampler', **loop))
    cfg = config('SeededInfiniteSampler', type='IterBasedTrainLoop')
    fit_sampler(cfg)
    assert cfg.train_dataloader.sampler.type == 'SeededInfiniteSampler'


def test_two_lengths(data, tmp_path):
    config = written(runner_config(data, tmp_path / 'work'), tmp_path)
    with pytest.raises(SystemExit, match='--epochs and --cfg-options train_cfg.max_iters'):
        command(config, '--epochs', 2, '--cfg-options', 'train_cfg.max_iters=3')


def test_checkpoints_every_few_epochs(data, tmp_path):
    """``--epochs`` does not overrule what ``--cfg-options`` asks for."""
    cfg = runner_config(data, tmp_path / 'work')
    cfg.default_hooks.checkpoint.interval = 2  # as --cfg-options has set it
    use_schedule(cfg, 4, False, {'default_hooks.checkpoint.interval': 2})
    checkpoint = cfg.default_hooks.checkpoint
    assert (checkpoint.interval, checkpoint.by_epoch) == (2, True)


def test_comforts_of_training(data, tmp_path):
    """The table of docs/own_data.md, on one command line."""
    config = written(runner_config(data, tmp_path / 'work'), tmp_path)
    runner = command(
        config,
        '--epochs',
        4,
        '--cfg-options',
        'default_hooks.checkpoint.save_best=coco/bbox_mAP',
        'val_evaluator.classwise=True',
        'default_hooks.early_stopping.type=EarlyStoppingHook',
        'default_hooks.early_stopping.monitor=coco/bbox_mAP',
        'default_hooks.early_stopping.patience=1',
        'default_hooks.early_stopping.min_delta=1',
        'optim_wrapper.accumulative_counts=2',
    )
    assert runner.epoch == 2  # AP cannot rise by 1
    assert list((tmp_path / 'work').glob('best_coco_bbox_mAP_*.pth'))
    scalars = runner.message_hub.log_scalars
    assert -1 <= scalars['val/coco/red_precision'].current() <= 1
    assert runner.optim_wrapper._accumulative_counts == 2


def test_accumulated_gradients_are_those_of_the_whole_batch(data, tmp_path):
    """Weights move every second iteration only."""
    cfg = runner_config(data, tmp_path)
    cfg.optim_wrapper.accumulative_counts = 2
    cfg.optim_wrapper.optimizer.lr = 0.1
    cfg.experiment_name = tmp_path.name
    runner = Runner.from_cfg(cfg)
    seen = []
    step = runner.model.train_step

    def keep(*args, **kwargs):
        result = step(*args, **kwargs)
        seen.append(runner.model.neck.fpn_convs[0].conv.weight.detach().clone())
        return result

    start = runner.model.neck.fpn_convs[0].conv.weight
    runner.model.train_step = keep
    runner.train()
    assert len(seen) == 2 and not torch.equal(seen[0], seen[1])
    assert torch.equal(seen[1], start)


@pytest.mark.parametrize('kind, package', [('Tensorboard', 'tensorboard'), ('Wandb', 'wandb')])
def test_a_backend_without_its_package(kind, package, data, tmp_path):
    cfg = runner_config(data, tmp_path / 'work')
    option = {'visualizer.vis_backends.0.type': f'{kind}VisBackend'}
    cfg.merge_from_dict(option)
    for found, fails in ((None, True), (object(), False)):
        with patch('importlib.util.find_spec', lambda name, found=found: found):
            if fails:
                with pytest.raises(ValueError, match=f'{kind}VisBackend .* pip install {package}'):
                    require_packages(cfg)
            else:
                require_packages(cfg)


def test_finetune_reads_a_finalised_checkpoint(data, tmp_path):
    """Also one of safetensors, whose meta is JSON."""
    import runpy

    source(tmp_path / 'five.pth')
    finalize = runpy.run_path(str(ROOT / 'tools/finalize_checkpoint.py'))['finalize']
    finalize(tmp_path / 'five.pth', tmp_path / 'five.safetensors')
    meta = load_checkpoint_file(tmp_path / 'five.safetensors')['meta']
    assert json.loads(json.dumps(meta))['dataset_meta']['classes'] == list('abcde')
    cfg = runner_config(data, tmp_path / 'work')
    runner = command(
        written(cfg, tmp_path),
        *('--finetune', tmp_path / 'five.safetensors', '--epochs', 1),
    )
    assert runner.iter == 3
