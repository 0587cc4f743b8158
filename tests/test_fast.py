"""What is there for speed alone says what the plain model says."""

import copy
import pickle

import pytest
import torch
from mmengine.runner import Runner
from test_detector import MODULES, assert_same, restless
from tiny import Operators, batch, build, losses_of, runner_config, tiny_config, write_coco
from torch import nn

from mmdiffdet.distill import Teacher
from mmdiffdet.engine.part_optim import PartBf16OptimWrapper, PartOptimWrapper
from mmdiffdet.fast import accelerated, disabled, groups
from mmdiffdet.models import DiffusionDet, DiffusionDetStage, DynamicConv, SelfAttention

PLAIN = {DiffusionDet, DiffusionDetStage, DynamicConv, SelfAttention}


def classes(model):
    """Of the modules that have a faster form."""
    return {type(m) for m in model.modules() if isinstance(m, tuple(PLAIN))}


@pytest.mark.parametrize('name', [None, 'd3pm', 'quality', 'geo_bias_mlp', 'geo_feat_rel'])
def test_detections_are_those_of_the_plain_model(name):
    model = restless(3, **MODULES.get(name, {})).eval()
    data = batch()
    with torch.no_grad():
        plain = model.test_step(data)
        with accelerated(model):
            assert not classes(model) & PLAIN
            fast = model.test_step(data)
    assert classes(model) == PLAIN
    assert_same([s.pred_instances for s in fast], [s.pred_instances for s in plain])


@pytest.mark.parametrize('wrapper', [PartOptimWrapper, PartBf16OptimWrapper])
def test_losses_and_gradients_are_those_of_the_plain_model(wrapper):
    model = build(tiny_config()).train()
    optim_wrapper = wrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    found, operators = [], []
    for state in (disabled, lambda: accelerated(model)):
        model.zero_grad()
        torch.manual_seed(0)
        with state(), optim_wrapper.optim_context(model), Operators() as counted:
            losses = losses_of(model, batch())
        losses['loss_cls'].backward()
        operators.append(counted.calls['mm'] + counted.calls['addmm'])
        found.append([losses['loss_cls'], model.bbox_head.head_series[0].linear1.weight.grad])
    assert operators[0] < operators[1]  # a product for each dynamic matrix
    tolerance = (
        dict(rtol=1e-4, atol=1e-5) if wrapper is PartOptimWrapper else dict(rtol=0.1, atol=1)
    )
    for plain, fast in zip(*found):
        torch.testing.assert_close(fast, plain, **tolerance)


def test_who_makes_the_call(tmp_path):
    """Training, validation, tests and teachers compute by the faster kernels."""
    seen = {}
    plain = DiffusionDet.backbone_maps

    def spy(name):
        def maps(self, images):
            seen.setdefault(name[-1], set()).add(type(self).__name__)
            return plain(self, images)

        return maps

    name = ['training']
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DiffusionDet, 'backbone_maps', spy(name))
        cfg = runner_config(write_coco(tmp_path / 'data'), tmp_path)
        cfg.train_cfg.val_interval = 2
        cfg.val_cfg, cfg.val_dataloader = dict(type='ValLoop'), cfg.test_dataloader
        cfg.val_evaluator = cfg.test_evaluator
        runner = Runner.from_cfg(cfg)
        runner.val_loop.run, run = lambda: (name.append('validation'), run()), runner.val_loop.run
        runner.train()
        name.append('test')
        runner.test()
        name.append('teacher')
        teacher = Teacher(build(tiny_config()))
        teacher(torch.zeros(1, 3, 64, 64), [torch.zeros(1)], lambda model, table: None)
    assert seen == dict.fromkeys(
        ('training', 'validation', 'test', 'teacher'), {'FastDiffusionDet'}
    )
    assert classes(runner.model) == PLAIN


def test_classes_come_back_after_an_error_and_of_an_inner_call():
    model = build(tiny_config())
    with pytest.raises(KeyError), accelerated(model):
        with accelerated(model):
            pass
        assert not classes(model) & PLAIN
        raise KeyError
    assert classes(model) == PLAIN
    with disabled(), accelerated(model):
        assert classes(model) == PLAIN


def test_a_subclass_keeps_what_it_does():
    class Other(DynamicConv):
        def forward(self, features, roi):
            return features

    other = Other(16, 4, 9)
    features, roi = torch.randn(5, 16), torch.randn(5, 9, 16)
    with accelerated(nn.Sequential(other)):
        assert torch.equal(other(features, roi), features)


def test_copies_and_weights_are_plain_ones():
    model = build(tiny_config())
    names = list(model.state_dict())
    with torch.no_grad(), accelerated(model, torch.bfloat16):
        assert list(model.state_dict()) == names
        copied = copy.deepcopy(model.bbox_head)
        again = pickle.loads(pickle.dumps(model.bbox_head.head_series[0].inst_interact))
    for conv in (copied.head_series[0].inst_interact, again):
        assert conv.held is None
    assert 'held' not in vars(model.bbox_head.head_series[0].inst_interact)


# ---- attention and means -----------------------------------------------


@pytest.mark.parametrize('shape', [(), (7, 7), (3, 1, 1, 1), (1, 4, 7, 7), (3, 4, 7, 7)])
def test_groups_of_images_give_the_same_bits(monkeypatch, shape):
    torch.manual_seed(0)
    attention = SelfAttention(16, num_heads=4)
    features, bias = torch.randn(3, 7, 16), torch.randn(shape)
    with torch.no_grad(), accelerated(attention):
        wanted, _ = attention(features, bias=bias)
        monkeypatch.setattr(groups, 'GROUP_BYTES', 2 * 4 * 7 * 7 * 4)
        found, _ = attention(features, bias=bias)
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)
        weights = attention(features, bias=bias, need_weights=True)[1]
    plain, plain_weights = attention(features, bias=bias, need_weights=True)
    torch.testing.assert_close(wanted, plain)
    torch.testing.assert_close(weights, plain_weights)


@pytest.mark.parametrize('dtype, tolerance', [(torch.float32, 1e-6), (torch.bfloat16, 4e-3)])
@pytest.mark.parametrize('layout', ['channels_last', 'contiguous_format'])
@pytest.mark.parametrize('training', [False, True])
def test_mean_of_rois_by_the_faster_kernel(dtype, tolerance, layout, training):
    torch.manual_seed(0)
    stage = build(tiny_config()).bbox_head.head_series[0]
    roi = torch.randn(6, 8, 7, 7).to(dtype).contiguous(memory_format=getattr(torch, layout))
    with accelerated(stage), torch.set_grad_enabled(training), Operators() as operators:
        found = stage.mean(roi)
    pooled = layout == 'channels_last' and not training
    assert operators.calls['avg_pool2d'] == pooled
    assert found.shape == (6, 8) and found.dtype == dtype
    exact = roi.double().flatten(2).mean(-1)
    assert (found - exact).abs().max() < tolerance


def test_mean_of_no_rois():
    roi = torch.zeros(0, 8, 7, 7).contiguous(memory_format=torch.channels_last)
    stage = build(tiny_config()).bbox_head.head_series[0]
    with torch.no_grad(), accelerated(stage):
        assert stage.mean(roi).shape == (0, 8)
