"""Checkpoints and configs of other DiffusionDets."""

import pickle
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from tiny import ROOT, SHARED, build
from tiny_detectron2 import SIZES, detectron2_name

from mmdiffdet.convert.checkpoint import convert, read_source, save
from mmdiffdet.convert.detectron2_config import ConvertedConfig, convert_config, dump
from mmdiffdet.convert.detectron2_model import model_config
from mmdiffdet.convert.detectron2_options import OPTIONS
from mmdiffdet.convert.detectron2_weights import options_of
from mmdiffdet.convert.detectron2_yaml import read_yaml
from mmdiffdet.datasets.from_file import use_extra_coco
from mmdiffdet.engine import load_checkpoint_file

PARTS = dict(
    LABEL_STATE=True,
    LABEL_D3PM=True,
    QUALITY_HEAD=True,
    GEO_BIAS=True,
    GEO_BIAS_TYPE='mlp',
    GEO_BIAS_LEARNABLE_SCALE=True,
    GEO_FEAT=True,
    GEO_FEAT_REL=True,
)


def model(**options):
    """An R50 model with a small head, random everywhere."""
    config = model_config({**SIZES, **options})
    net = build(
        dict(
            config,
            backbone=dict(type='mmdet.ResNet', depth=50),
            neck=dict(
                type='mmdet.FPN', in_channels=[256, 512, 1024, 2048], out_channels=16, num_outs=4
            ),
        )
    )
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_()
    return net


def as_detectron2(net):
    """The same weights under Detectron2's names."""
    weights = {}
    for name, value in net.state_dict().items():
        if name.endswith('num_batches_tracked'):
            continue
        if name.startswith('neck.'):
            _, kind, level, _, what = name.split('.')
            kind = 'lateral' if kind == 'lateral_convs' else 'output'
            name = f'backbone.fpn_{kind}{int(level) + 2}.{what}'
        elif name.startswith('backbone.layer'):
            _, layer, block, rest = name.split('.', 3)
            rest = rest.replace('downsample.0', 'shortcut').replace('downsample.1', 'shortcut.norm')
            for i in '123':
                rest = rest.replace(f'bn{i}', f'conv{i}.norm')
            name = f'backbone.bottom_up.res{int(layer[5:]) + 1}.{block}.{rest}'
        elif name.startswith('backbone.'):
            name = name.replace('backbone.', 'backbone.bottom_up.stem.')
            name = name.replace('bn1', 'conv1.norm')
        else:
            name = 'head.' + detectron2_name(name.removeprefix('bbox_head.'))
        weights[name] = value
    weights['betas'] = torch.zeros(1000)
    weights['sqrt_alphas_cumprod'] = torch.zeros(1000)
    weights['pixel_mean'] = torch.zeros(3, 1, 1)
    return weights


def run_main(monkeypatch, name, *args):
    """A tool in this process; returns its exit code."""
    monkeypatch.setattr(sys, 'argv', [name, *map(str, args)])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(ROOT / name), run_name='__main__')
    return stop.value.code


@pytest.mark.parametrize('options', [{}, PARTS], ids=['plain', 'parts'])
@pytest.mark.parametrize('source', ['pth', 'pkl'])
@pytest.mark.parametrize('result', ['pth', 'safetensors'])
def test_detectron2(tmp_path, options, source, result):
    net = model(**options)
    weights = as_detectron2(net)
    src = tmp_path / f'model.{source}'
    if source == 'pth':
        torch.save(dict(model=weights, iteration=3), src)
    else:
        arrays = {k: v.numpy() for k, v in weights.items()}
        src.write_bytes(pickle.dumps(dict(model=arrays, __author__='d2')))
    found = convert(read_source(src))
    assert found.kind == 'Detectron2 DiffusionDet'
    assert found.complete, (found.left_over, found.missing, found.reshaped)
    assert set(found.ignored) == {'betas', 'sqrt_alphas_cumprod', 'pixel_mean'}
    dst = tmp_path / f'ours.{result}'
    save(found, dst)
    loaded = load_checkpoint_file(dst)
    loaded = loaded.get('state_dict', loaded)
    for name, value in net.state_dict().items():
        if not name.endswith('num_batches_tracked'):
            assert torch.equal(loaded[name], value), name


def test_weights_left_over_or_missing_are_a_failure(tmp_path, monkeypatch, capsys):
    weights = as_detectron2(model())
    weights.pop('head.head_series.1.linear1.weight')
    weights['head.head_series.0.mystery'] = torch.zeros(2)
    weights['backbone.bottom_up.res2.0.conv1.weight'] = torch.zeros(1)
    torch.save(dict(model=weights), tmp_path / 'm.pth')
    code = run_main(
        monkeypatch, 'tools/convert_checkpoint.py', tmp_path / 'm.pth', tmp_path / 'ours.pth'
    )
    printed = capsys.readouterr()
    assert code == 1
    assert not (tmp_path / 'ours.pth').exists()
    for name in (
        'bbox_head.head_series.1.linear1.weight',
        'bbox_head.head_series.0.mystery',
        'backbone.layer1.0.conv1.weight',
    ):
        assert name in printed.out
    assert 'was not written' in printed.err


def test_a_strangers_pickle_is_not_executed(tmp_path, capsys):

    class Evil:
        def __reduce__(self):
            return print, ('executed',)

    (tmp_path / 'm.pkl').write_bytes(pickle.dumps(dict(model=Evil())))
    with pytest.raises(ValueError, match='print is not allowed'):
        read_source(tmp_path / 'm.pkl')
    (tmp_path / 'n.pkl').write_bytes(b'nonsense')
    with pytest.raises(ValueError, match='n.pkl'):
        read_source(tmp_path / 'n.pkl')
    (tmp_path / 'o.pkl').write_bytes(pickle.dumps(dict(other=np.zeros(3))))
    with pytest.raises(ValueError, match='neither'):
        convert(read_source(tmp_path / 'o.pkl'))
    assert 'executed' not in capsys.readouterr().out


@pytest.mark.skipif(not (SHARED / 'seed').exists(), reason='needs ../shared/seed')
def test_every_key_of_the_mmdetection_project():
    weights = {}
    for line in (SHARED / 'seed/mmdet_project_keys.tsv').read_text().splitlines():
        name, *shape = line.split('\t')
        if name in ('key', 'name') or name.startswith('#'):
            continue
        sizes = [int(n) for n in ''.join(c if c.isdigit() else ' ' for c in shape[0]).split()]
        weights[name] = torch.zeros(sizes)
    assert len(weights) > 300
    found = convert(weights)
    assert found.kind == "MMDetection's DiffusionDet project"
    assert found.complete, (found.left_over, found.missing, found.reshaped)
    assert (
        options_of(
            {
                k.removeprefix('bbox_head.'): v
                for k, v in weights.items()
                if k.startswith('bbox_head.')
            }
        )['NUM_CLASSES']
        == 80
    )


BASE = """
MODEL:
  META_ARCHITECTURE: "DiffusionDet"
  WEIGHTS: "detectron2://ImageNetPretrained/torchvision/R-50.pkl"
  PIXEL_MEAN: [123.675, 116.280, 103.530]
  PIXEL_STD: [58.395, 57.120, 57.375]
  RESNETS:
    DEPTH: 50
    STRIDE_IN_1X1: False
DATASETS:
  TRAIN: ("coco_2017_train",)
  TEST: ("coco_2017_val",)
SOLVER:
  IMS_PER_BATCH: 16
  BASE_LR: 0.000025
  STEPS: (210000, 250000)
  MAX_ITER: 270000
  WARMUP_FACTOR: 0.01
  CLIP_GRADIENTS:
    ENABLED: True
INPUT:
  FORMAT: "RGB"
  MIN_SIZE_TRAIN: (480, 512)
  CROP:
    ENABLED: True
    TYPE: "absolute_range"
    SIZE: (384, 600)
VERSION: 2
"""
CHILD = """
_BASE_: "base.yaml"
MODEL:
  DiffusionDet:
    NUM_CLASSES: 3
    NUM_PROPOSALS: 500
    LABEL_STATE: True
    LABEL_D3PM: True
    QUALITY_HEAD: True
    QUALITY_SCORE_REWEIGHT: True
    GEO_FEAT: True
    GEO_FEAT_LR_MULT: 25.0
    GEO_FEAT_TRAIN_START_ITER: 100
    NEW_THING: 7
    NO_OBJECT_WEIGHT: 0.5
  ROI_BOX_HEAD:
    POOLER_RESOLUTION: 14
SOLVER:
  MAX_ITER: 2500
  STEPS: (2000,)
  BACKBONE_MULTIPLIER: 0.0
SEED: 3
"""


def yamls(tmp_path, child=CHILD):
    (tmp_path / 'base.yaml').write_text(BASE)
    (tmp_path / 'child.yaml').write_text(child)
    return tmp_path / 'child.yaml'


def test_config_of_detectron2(tmp_path, monkeypatch, capsys):
    out = tmp_path / 'out/ours.py'
    code = run_main(monkeypatch, 'tools/convert_config.py', yamls(tmp_path), out)
    assert code == 0
    printed = capsys.readouterr().out
    unknown = {
        'MODEL.DiffusionDet.NEW_THING',
        'MODEL.DiffusionDet.NO_OBJECT_WEIGHT',
        'MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION',
    }
    for name in unknown:
        assert name in printed
        assert name in out.read_text()
    cfg = Config.fromfile(out)
    assert cfg.default_scope == 'mmdiffdet'
    assert cfg.model.bbox_head.num_classes == 3
    assert cfg.model.backbone.style == 'pytorch'
    assert cfg.model.backbone.frozen_stages == 1
    assert 'resnet50' in cfg.model.backbone.init_cfg.checkpoint
    assert cfg.model.test_cfg.quality_power == 1
    assert cfg.model.data_preprocessor.bgr_to_rgb
    assert cfg.train_cfg.max_iters == 2500
    assert cfg.param_scheduler[1].milestones == [2000]
    assert cfg.param_scheduler[0].start_factor == 0.01
    assert cfg.optim_wrapper.optimizer.lr == 2.5e-5
    assert cfg.optim_wrapper.clip_grad.max_norm == 1
    assert cfg.optim_wrapper.paramwise_cfg.backbone_lr_mult == 0
    assert cfg.optim_wrapper.paramwise_cfg.geometry_lr_mult == 25
    assert cfg.randomness.seed == 3
    assert dict(type='GeometryWarmupHook', start=100, warmup=0) in cfg.custom_hooks
    assert cfg.train_dataloader.dataset.type == 'CocoDataset'
    assert cfg.train_dataloader.batch_size == 16
    crop = cfg.train_dataloader.dataset.pipeline[4]
    assert crop.type == 'RandomChoice'
    assert crop.transforms[0][0].scales == [(1333, 480), (1333, 512)]
    cfg.model.backbone.init_cfg = None
    net = build(cfg.model)
    assert 'quality' in net.bbox_head.head_series[0].output_parts


def test_every_option_says_where_it_goes():
    sections = {'switch', 'fixed', 'unused'}
    for name, option in OPTIONS.items():
        assert option.key or option.section in sections | {'backbone', 'data', 'schedule'}, name


def test_extra_coco_datasets(tmp_path, monkeypatch):
    """The variable that names data sets there does so here."""
    monkeypatch.setenv('EXTRA_COCO_DATASETS', 'cells_train,a.json,i;cells_val,b.json,i')
    src = yamls(
        tmp_path,
        CHILD
        + """DATASETS:
  TRAIN: ("cells_train",)
  TEST: ("cells_val",)
""",
    )
    result = convert_config(read_yaml(src), tmp_path / 'x.py')
    (tmp_path / 'x.py').write_text(dump(result, src))
    cfg = Config.fromfile(tmp_path / 'x.py')
    use_extra_coco(cfg)
    assert cfg.train_dataloader.dataset.ann_file == 'a.json'
    assert cfg.test_dataloader.dataset.data_prefix.img == 'i'
    assert cfg.test_evaluator.ann_file == 'b.json'


def test_unknown_data_set_and_own_weights(tmp_path):
    child = (
        CHILD
        + """DATASETS:
  TRAIN: ("cells_train",)
"""
    )
    child = child.replace('MODEL:\n', 'MODEL:\n  WEIGHTS: "a/b.pth"\n', 1)
    src = yamls(tmp_path, child)
    result = convert_config(read_yaml(src), tmp_path / 'x.py')
    assert 'cells_train' in result.unknown['DATASETS.TRAIN']
    assert result.unknown['MODEL.WEIGHTS'] == 'a/b.pth'
    text = dump(result, src)
    assert 'To do: convert a/b.pth' in text and 'base_' in text


@pytest.mark.parametrize(
    'content, message',
    [
        ('- a', 'not a mapping'),
        ('a: [', 'not YAML'),
        ('_BASE_: child.yaml', 'its own _BASE_'),
        ('_BASE_: none.yaml', 'none.yaml.*_BASE_ of .*child.yaml'),
        (
            'MODEL: {DiffusionDet: {GEO_BIAS: true, GEO_FEAT: true, GEO_FEAT_TARGET: both}}',
            "'proposal', 'reg'",
        ),
        (
            'MODEL: {DiffusionDet: {GEO_FEAT: true, GEO_FEAT_PROPOSAL_MODE: mul}}',
            "'qk_pos', 'add'",
        ),
        ('MODEL: {DiffusionDet: {CLS_LOSS_TYPE: ce}}', "'focal', 'qfl'"),
    ],
)
def test_bad_yaml(tmp_path, monkeypatch, capsys, content, message):
    src = yamls(tmp_path, content)
    code = run_main(monkeypatch, 'tools/convert_config.py', src, tmp_path / 'x.py')
    assert code == 1 and not (tmp_path / 'x.py').exists()
    assert re.search(message, capsys.readouterr().err)


def test_yaml_is_plain(tmp_path):
    """No Python objects from tags."""
    (tmp_path / 'x.yaml').write_text('a: !!python/object/apply:os.getcwd []')
    with pytest.raises(ValueError, match='not YAML'):
        read_yaml(tmp_path / 'x.yaml')


def test_distillation_options_become_the_hook(tmp_path):
    name = 'MODEL.DiffusionDet.SAMPLER_DISTILL_'
    found = convert_config(
        {
            f'{name}TEACHER_WEIGHTS': 'checkpoints/teacher.pth',
            f'{name}TOPK': 50,
            f'{name}STUDENT_SAMPLE_STEP': 4,
            f'{name}ANOTHER': 1,
        },
        tmp_path / 'student.py',
    )
    (hook,) = found.config['custom_hooks']
    assert hook == dict(
        type='SamplerDistillHook',
        teacher=dict(checkpoint='checkpoints/teacher.safetensors'),
        topk=50,
        student_steps=4,
        box_weight=1.0,
        cls_weight=0.0,
    )
    assert list(found.unknown) == [f'{name}ANOTHER', 'DATASETS.TRAIN', 'DATASETS.TEST']
    assert any('checkpoints/teacher.pth' in note for note in found.notes)
    alone = convert_config({f'{name}TOPK': 50}, tmp_path / 'a.py')
    assert 'custom_hooks' not in alone.config
    assert f'{name}TOPK' in alone.unknown
    assert f'{name}BOX_WEIGHT' not in alone.unknown


CODE = 'open(chr(119), chr(119))'  # leaves a file named w


@pytest.mark.parametrize(
    'yaml',
    [
        'MODEL:\n  "EVIL\\n{code}\\n#": 3\n',
        'MODEL:\n  "EVIL\\r{code}\\r#": 3\n',
        'SOLVER:\n  OPTIMIZER: "x\\n{code}\\n"\n',
        'MODEL:\n  WEIGHTS: "a\\n{code}\\n"\n',
        'OUTPUT_DIR: "a\\u2028{code}\\n\\"\\n{code}\\n#"\n',
        'OUTPUT_DIR: \'"""\n{code}\n"""\'\n',
        'DATASETS:\n  TRAIN: ("a\\n{code}\\n",)\n',
    ],
)
def test_nothing_of_a_yaml_becomes_code(yaml, tmp_path, monkeypatch):
    """Neither of its keys nor of its values, in comments or strings."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'x.yaml').write_text(yaml.replace('{code}', CODE))
    result = convert_config(read_yaml(tmp_path / 'x.yaml'), tmp_path / 'x.py')
    # a file's name is somebody else's text, too
    (tmp_path / 'x.py').write_text(dump(result, Path(f'a\n{CODE}\n.yaml')))
    Config.fromfile(tmp_path / 'x.py')
    assert CODE in (tmp_path / 'x.py').read_text()
    assert not (tmp_path / 'w').exists()


@pytest.mark.parametrize(
    'value', ["{{$NOPE:'+open('was_run','w').name+'}}", '{{_base_.model}}', '{{ fileDirname }}']
)
def test_what_mmengine_would_replace_is_refused(value, tmp_path):
    (tmp_path / 'x.yaml').write_text(f'OUTPUT_DIR: "{value}"\n')
    with pytest.raises(ValueError, match='OUTPUT_DIR.*MMEngine would replace'):
        convert_config(read_yaml(tmp_path / 'x.yaml'), tmp_path / 'x.py')
    # wherever it comes from
    result = ConvertedConfig(dict(work_dir=value))
    with pytest.raises(ValueError, match='work_dir.*MMEngine replaces'):
        dump(result, tmp_path / 'x.yaml')


def test_defaults_of_detectron2s_options():
    expected = dict(
        NUM_PROPOSALS=500,
        NUM_HEADS=6,
        SNR_SCALE=2.0,
        SAMPLE_STEP=1,
        OTA_K=5,
        USE_NMS=True,
        LABEL_STATE_SCALE=0.1,
        LABEL_STATE_KEEP_PROB_CONST=1.0,
        LABEL_D3PM_USE_DISTRIBUTION=True,
        QUALITY_HEAD_INCLUDE_T=True,
        QUALITY_HEAD_USE_LOG_WH=True,
        QUALITY_LOSS_WEIGHT=1.0,
        QUALITY_GUIDANCE_TOPK=50,
        QUALITY_GUIDANCE_SCORE_WEIGHT=True,
        GRAPH_TOPO_IOU_THRESH=0.1,
        GEO_BIAS_SCALE=1.0,
        GEO_FEAT_SCALE=0.1,
    )
    assert {name: OPTIONS[name].default for name in expected} == expected
