"""What a config says is checked before anything is built."""

import os
from pathlib import Path

import pytest
from mmengine.config import Config
from tiny import ROOT, build, runner_config, tiny_config, write_coco

from mmdiffdet.config import keys
from mmdiffdet.config.check import check_config
from mmdiffdet.config.file import find_config, read_config
from mmdiffdet.config.value_types import fits

CONFIGS = [
    str(p.relative_to(ROOT))
    for p in sorted((ROOT / 'configs').glob('*/*.py'))
    if '_base_' not in p.parts
]


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp('config')
    runner_config(write_coco(folder / 'data', 2), folder).dump(folder / 'tiny.py')
    return str(folder / 'tiny.py')


@pytest.mark.parametrize(
    'key, value, said',
    [
        ('optim_wraper.optimizer.lr', 1.0, "no such key.*did you mean 'optim_wrapper'"),
        ('data.samples_per_gpu', 4, 'MMDetection 2.*train_dataloader'),
        ('evaluation.interval', 1, 'MMDetection 2.*val_evaluator'),
        ('data_root', 'x', 'used this variable already|no such key'),
        ('train_cfg.max_iter', 3, "train_cfg.max_iter: .*did you mean 'max_iters'"),
        ('train_dataloader.batch_sise', 3, "did you mean 'batch_size'"),
        ('train_dataloader.batch_size', 'abc', 'must be'),
        ('train_dataloader.dataset.pipeline.3.prob', 3.5, 'pipeline.3.prob must be from 0 to 1'),
        ('val_dataloader.dataset.type', 'CocoDataaset', "did you mean '.*CocoDataset'"),
        ('val_dataloader.dataset.metainfo.clases', ('a',), "did you mean 'classes'"),
        ('default_hooks.chekpoint.interval', 3, 'default_hooks.chekpoint has no type'),
        ('default_hooks.chekpoint', None, "switches nothing off; did you mean 'checkpoint'"),
        ('default_hooks.checkpoint.itnerval', 3, "did you mean 'interval'"),
        ('model.data_preprocessor.std', [0, 1, 1], 'std must be greater than 0'),
        ('model.test_cfg.nms.iou_threshold', 1.5, 'iou_threshold must be from 0 to 1'),
        ('model.sampler.renewal.score_thr', float('nan'), 'must be a finite number'),
        ('model.sampler.sampling_timesteps', 'four', 'sampling_timesteps.*must be int'),
        ('model.backbone.norm_eval', 'no', "norm_eval.*got 'no'"),
        ('model.backbone.depth.deeper', 3, 'model.backbone.depth of the config is 18'),
        ('train_dataloader.dataset.pipeline.5.prob', 1, 'is a list, of which 0 to 4'),
        ('train_dataloader.dataset.pipeline.x.prob', 1, 'can be named, not x'),
        ('randomness.sede', 3, "did you mean 'seed'"),
        ('test_dataloader.dataset', None, 'dataset must be dict'),
        ('env_cfg.cudnn_benchmark', 'maybe', 'must be True or False'),
        ('env_cfg', 3, 'env_cfg.*must be dict'),
        ('custom_hooks', 'abc', 'custom_hooks.*must be a list'),
        ('resume', 'yes', 'resume.*must be True or False'),
        ('work_dir', '{{$HERE}}', 'work_dir is .*MMEngine replaces'),
    ],
)
def test_options_that_would_do_nothing_or_fail_late(tiny, key, value, said):
    with pytest.raises(ValueError, match=f'(?s){said}') as error:
        read_config(tiny, options={key: value})
    assert any(name in str(error.value) for name in (key, key.split('.')[0], key.split('.')[-1]))


@pytest.mark.parametrize(
    'text, said',
    [
        ('x = (', 'line 1 cannot be read: SyntaxError'),
        ('x = 1\ny = none', "line 2 cannot be read: NameError: name 'none'"),
        ("_base_ = ['nothing.py']", 'nothing.py'),
        ("_base_ = ['bad.py']", 'its own _base_'),
        ('', 'is empty'),
        ('modell = dict()', 'has no model'),
    ],
)
def test_files_that_are_no_configs(tmp_path, text, said):
    (tmp_path / 'bad.py').write_text(text)
    with pytest.raises(ValueError, match=said) as error:
        read_config(str(tmp_path / 'bad.py'))
    assert str(tmp_path) in str(error.value)


def test_special_files_are_refused_not_waited_for(tmp_path):
    with pytest.raises(ValueError, match='is a folder'):
        find_config(str(tmp_path))
    os.mkfifo(tmp_path / 'pipe.py')
    with pytest.raises(ValueError, match='device or pipe'):
        find_config(str(tmp_path / 'pipe.py'))


def test_keys_that_nothing_reads_are_told_once(tmp_path, tiny, monkeypatch):
    file = tmp_path / 'more.py'
    file.write_text(
        f'_base_ = [{tiny!r}]\nload_form = "x.pth"\nused = 3\nrandomness = dict(seed=used)\n'
    )
    said = []
    monkeypatch.setattr('mmdiffdet.config.keys.print_log', lambda text, *_, **__: said.append(text))
    read_config(str(file))
    assert said == [f"{file}: nothing reads load_form; did you mean 'load_from'?"]


@pytest.mark.parametrize('path', CONFIGS[::6])
def test_our_own_configs_pass(path):
    check_config(Config.fromfile(ROOT / path))


@pytest.mark.parametrize('path', ['configs/own/own_coco.py', 'configs/demo/demo_20to1.py'])
def test_a_config_that_was_written_out_passes_once_more(path, tmp_path):
    """Variables stand in it that nothing reads any more."""
    Config.fromfile(ROOT / path).dump(tmp_path / 'config.py')
    check_config(Config.fromfile(tmp_path / 'config.py'))


def test_fits():
    from typing import Dict, List, Optional, Sequence, Tuple, Union

    for value, hint in [
        (3, int), (3, float), (True, bool), ([1, 2], Tuple[int, int]), ((1, 2), List[int]),
        (None, Optional[int]), ('a', Union[int, str]), ({}, Dict[str, int]), ([], Sequence[str]),
    ]:  # fmt: skip
        assert fits(value, hint), (value, hint)
    for value, hint in [
        (3.5, int), (True, int), ('3', float), ('no', bool), ([1, 2, 3], Tuple[int, int]),
        ('abc', Sequence[str]), (['a'], List[int]), (3, dict), (None, int), (3, str),
    ]:  # fmt: skip
        assert not fits(value, hint), (value, hint)
    # annotations of other packages are not that exact
    assert fits(1.5, int, strict=False) and fits([{}], dict, strict=False)
    assert not fits('x', int, strict=False)


def test_none_switches_a_hook_off(tiny):
    cfg = read_config(
        tiny, options={'default_hooks.checkpoint_guard': None, 'default_hooks.logger': None}
    )
    assert 'checkpoint_guard' not in cfg.default_hooks  # of ours
    assert cfg.default_hooks.logger is None  # MMEngine's own


def test_a_misspelt_key_beside_the_right_one_is_told(tiny, tmp_path, monkeypatch):
    path = tmp_path / 'twice.py'
    hooks = Config.fromfile(tiny).default_hooks.to_dict()
    path.write_text(Path(tiny).read_text() + f'\ndefaulth_ooks = {hooks!r}\n')
    told = []
    monkeypatch.setattr(keys, 'print_log', lambda text, *_: told.append(text))
    read_config(str(path))
    assert "nothing reads defaulth_ooks; did you mean 'default_hooks'" in told[0]


@pytest.mark.parametrize('weight', [None, -1.0, 'x', float('nan')])
def test_a_losses_weight_is_named(weight):
    config = tiny_config()
    config.criterion.loss_bbox.loss_weight = weight
    with pytest.raises(ValueError, match='loss_bbox.loss_weight must be >= 0'):
        build(config)
