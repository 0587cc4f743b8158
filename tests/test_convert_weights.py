"""Checkpoints of other systems: what their weights show, and what is left of them."""

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import build, tiny_config
from tiny_detectron2 import SIZES, detectron2_name

from mmdiffdet.convert import checkpoint
from mmdiffdet.convert.checkpoint import Conversion, convert, read_source, save
from mmdiffdet.convert.detectron2_model import model_config
from mmdiffdet.convert.detectron2_weights import options_of, rename, rename_all
from mmdiffdet.convert.golden import Golden, Report
from mmdiffdet.engine import load_checkpoint_file

PLAIN = dict(
    NUM_CLASSES=5,
    HIDDEN_DIM=16,
    NUM_HEADS=3,
    DIM_FEEDFORWARD=24,
    DIM_DYNAMIC=8,
    NUM_CLS=2,
    NUM_REG=4,
    DISABLE_SELF_ATTN=False,
    LABEL_STATE=False,
)
SHOWN = dict(
    plain=PLAIN,
    no_interaction=dict(PLAIN, DISABLE_SELF_ATTN=True, NUM_HEADS=1),
    without_time_and_iou=dict(
        PLAIN,
        LABEL_STATE=True,
        QUALITY_HEAD=True,
        QUALITY_HEAD_HIDDEN_DIM=20,
        QUALITY_HEAD_INCLUDE_T=False,
        GEO_BIAS=True,
        GEO_BIAS_TYPE='mlp',
        GEO_BIAS_HIDDEN_DIM=12,
        GEO_BIAS_REL_INCLUDE_IOU=False,
        GEO_FEAT=True,
        GEO_FEAT_HIDDEN_DIM=28,
        GEO_FEAT_REL=True,
        GEO_FEAT_REL_INCLUDE_IOU=False,
    ),
    with_time_and_iou=dict(
        PLAIN,
        QUALITY_HEAD=True,
        QUALITY_HEAD_HIDDEN_DIM=20,
        QUALITY_HEAD_INCLUDE_T=True,
        GEO_BIAS=True,
        GEO_BIAS_TYPE='mlp',
        GEO_BIAS_HIDDEN_DIM=12,
        GEO_BIAS_REL_INCLUDE_IOU=True,
        GEO_BIAS_LEARNABLE_SCALE=True,
        NHEADS=2,
        GEO_FEAT=True,
        GEO_FEAT_HIDDEN_DIM=28,
        GEO_FEAT_REL=True,
        GEO_FEAT_REL_INCLUDE_IOU=True,
    ),
    learnable_scale_alone=dict(
        PLAIN, GEO_BIAS=True, GEO_BIAS_LEARNABLE_SCALE=True, NHEADS=8, GEO_FEAT=True
    ),
)
SHOWN['learnable_scale_alone']['GEO_FEAT_ENCODER'] = 'linear'


def head_weights(**options):
    """A head of these options, under Detectron2's names."""
    config = model_config({'NHEADS': 4, **options})
    head = build({**tiny_config(), **config}).bbox_head
    names = {'geometry_feature.absolute.0.': 'geometry_feature.absolute.'}
    linear = options.get('GEO_FEAT_ENCODER') == 'linear'
    found = {}
    for name, value in head.state_dict().items():
        for old, new in names.items():
            name = name.replace(old, new) if linear else name
        found[detectron2_name(name)] = value
    return found


@pytest.mark.parametrize('name', SHOWN)
def test_weights_show_their_options(name):
    assert options_of(head_weights(**SHOWN[name])) == SHOWN[name]


def test_weights_of_no_head():
    weights = head_weights(**PLAIN)
    for name in ('head_series.0.class_logits.weight', 'head_series.0.linear1.weight'):
        with pytest.raises(ValueError, match='not the weights of a DiffusionDet head'):
            options_of({k: v for k, v in weights.items() if k != name})
    assert rename('head_series.0.quality_head.2.bias', []) == ('head_series.0.?.quality.mlp.2.bias')
    assert rename('time_mlp.1.bias', ['x']) == 'time_mlp.1.bias'


def test_weights_of_attention_that_is_switched_off():
    """Detectron2 keeps them, and nothing reads them."""
    weights = {'head_series.0.self_attn.in_proj_bias': 1, 'head_series.0.norm1.bias': 2}
    renamed, ignored = rename_all(weights, ['head_series.0.norm1.bias'])
    assert renamed == {'head_series.0.norm1.bias': 2}
    assert ignored == {'head_series.0.self_attn.in_proj_bias': 'proposals do not interact'}
    assert rename_all(weights, weights) == (weights, {})


def test_a_checkpoint_of_the_project(tmp_path):
    """Of a parallel run, for a model that is given; into a folder that is not there."""
    config = {**tiny_config(), **model_config(dict(SIZES, QUALITY_HEAD=True))}
    net = build(config)
    weights = {f'module.{detectron2_name(k)}': v for k, v in net.state_dict().items()}
    weights['module.bbox_head.betas'] = torch.zeros(3)
    torch.save(dict(state_dict=weights, epoch=3), tmp_path / 'm.pth')
    found = convert(read_source(tmp_path / 'm.pth'), config)
    assert found.kind == "MMDetection's DiffusionDet project" and found.complete
    assert set(found.ignored) == {'bbox_head.betas'}
    for _ in range(2):  # again in the place of the first
        save(found, tmp_path / 'a/b/ours.pth')
    saved = load_checkpoint_file(tmp_path / 'a/b/ours.pth')
    assert saved['meta'] == dict(converted_from=found.kind)
    assert all(torch.equal(saved['state_dict'][k], v) for k, v in net.state_dict().items())
    with pytest.raises(ValueError, match='must end in .pth or .safetensors'):
        save(found, tmp_path / 'ours.bin')


def test_what_is_no_weight_is_not_read(tmp_path):
    content = {'module.a': np.arange(3.0), 'note': 'text', 7: np.zeros(1), 'b.module.': np.ones(1)}
    (tmp_path / 'm.pkl').write_bytes(pickle.dumps(dict(model=content, a=3)))
    found = read_source(tmp_path / 'm.pkl')
    assert {name: value.tolist() for name, value in found.items()} == {
        'a': [0, 1, 2],
        'b.module.': [1],
    }


@pytest.mark.parametrize('part', ['left_over', 'missing', 'reshaped'])
def test_one_weight_without_a_place_is_not_complete(part):
    assert Conversion('x', {}).complete
    assert not Conversion('x', {}, **{part: ['a']}).complete


@pytest.mark.parametrize(
    'blocks, depth',
    [((3, 4, 6, 3), 50), ((3, 4, 23, 3), 101), ((3, 8, 36, 3), 152), ((2, 2, 2, 2), 18)],
)
def test_the_blocks_tell_the_depth(blocks, depth, monkeypatch):
    """As in He et al. (arXiv 1512.03385, table 1); ResNet-18's blocks are of another kind."""
    source = {f'head.{k}': v for k, v in head_weights(**PLAIN).items()}
    for stage, count in enumerate(blocks, 2):
        for block in range(count):
            source[f'backbone.bottom_up.res{stage}.{block}.conv1.weight'] = torch.zeros(1)
    built = []
    monkeypatch.setattr(
        checkpoint,
        'MODELS',
        SimpleNamespace(build=lambda cfg: built.append(cfg) or torch.nn.Identity()),
    )
    if depth == 18:
        with pytest.raises(ValueError, match=r'no ResNet-50, 101 or 152 \(blocks .2, 2, 2, 2'):
            convert(source)
        return
    convert(source)
    assert built[0].backbone == dict(type='mmdet.ResNet', depth=depth)
    neck = dict(in_channels=[256, 512, 1024, 2048], out_channels=16, num_outs=4)
    assert built[0].neck == dict(neck, type='mmdet.FPN')


def test_a_recorded_file_shows_its_options():
    """Sizes of the tensors, which the recorded options replace."""
    tensors = {'in.logits': torch.zeros(2, 3, 12, 7), 'in.boxes': torch.zeros(2, 3, 12, 4)}
    golden = Golden('loss_a_b', tensors, dict(image_hw='48,64;40,52'))
    assert golden.kind == 'loss'
    assert golden.options() == dict(NHEADS=4, NUM_CLASSES=7, NUM_PROPOSALS=12)
    assert golden.image_sizes(2).tolist() == [[48, 64], [40, 52]]
    one = Golden('loss', {'in.noise': torch.zeros(2, 9, 4)}, dict(image_hw='48,64'))
    assert one.options() == dict(NHEADS=4, NUM_PROPOSALS=9)
    assert one.image_sizes(3).tolist() == [[48, 64]] * 3
    weights = {f'head.{k}': v for k, v in head_weights(**PLAIN).items()}
    knobs = '{"NUM_CLS": 9, "NHEADS": 2}'
    golden = Golden('head', {**weights, 'in.logits': torch.zeros(1, 1)}, dict(knobs=knobs))
    assert golden.options() == {**PLAIN, 'NUM_CLS': 9, 'NHEADS': 2}


def test_errors_within_the_tolerance_are_none():
    """The largest of each kind counts; a NaN or another shape is no small error."""

    def report(*pairs, relative_to=1.0, tolerance=0.5, problem=''):
        found = Report('x', tolerances=dict(a=tolerance), problem=problem)
        for one, other in pairs:
            found.compare('a', torch.tensor(one), torch.tensor(other), relative_to)
        return found

    close, far = ([1.0, 2.0], [1.0, 2.5]), ([1.0, 2.0], [1.75, 2.0])
    assert report(close).ok and report(close).errors == dict(a=0.5)  # the tolerance itself
    assert not report(far).ok
    assert report(far, close).errors == report(close, far).errors == dict(a=0.75)
    assert report(far, relative_to=3.0).errors == dict(a=0.25)
    assert not report(close, problem='odd').ok
    assert report(([], [])).errors == dict(a=0.0) and report(([], []), tolerance=0.0).ok
    assert report(([np.nan, 1.0], [np.nan, 1.0])).errors == dict(a=np.inf)
    assert report(([[1.0, 2.0]], [1.0, 2.0])).errors == dict(a=np.inf)
    assert not Report('x').ok  # nothing was compared
    mixed = report(close)
    mixed.tolerances['b'] = 1.0
    mixed.compare('b', torch.tensor([3]), torch.tensor([5]))
    assert not mixed.ok and mixed.errors == dict(a=0.5, b=2.0)
