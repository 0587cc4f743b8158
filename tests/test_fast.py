"""What is there for speed alone says what the plain model says."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from mmengine.runner import Runner
from test_detector import MODULES, assert_same, restless
from tiny import Operators, batch, build, losses_of, runner_config, tiny_config, write_coco
from torch import nn

from mmdiffdet import benchmark as bench
from mmdiffdet.distill import Teacher
from mmdiffdet.engine.part_optim import PartBf16OptimWrapper, PartOptimWrapper
from mmdiffdet.fast import accelerated, disabled, groups
from mmdiffdet.fast.products import PRECISIONS, held_for, product
from mmdiffdet.models import DiffusionDet, DiffusionDetStage, DynamicConv, SelfAttention

PRODUCT = '_linear_pointwise'  # oneDNN's
needs_bf16 = pytest.mark.skipif(torch.bfloat16 not in PRECISIONS, reason='oneDNN without bfloat16')
PLAIN = {DiffusionDet, DiffusionDetStage, DynamicConv, SelfAttention}


def classes(model):
    """Those that have a faster form, by name."""
    return {type(m) for m in model.modules() if isinstance(m, tuple(PLAIN))}


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return nn.Linear(16, 24)


@pytest.fixture
def conv():
    torch.manual_seed(0)
    return DynamicConv(16, 4, 9)


def inputs(rows=5):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(rows, 16, generator=generator), torch.randn(rows, 9, 16, generator=generator)


# ---- the whole detector ------------------------------------------------


@pytest.mark.parametrize('name', [None, 'd3pm', 'quality', 'geo_bias_mlp', 'geo_feat_rel'])
def test_detections_are_those_of_the_plain_model(name):
    model = restless(SAMPLE_STEP=3, **MODULES.get(name, {})).eval()
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
    features, roi = inputs()
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


# ---- products ----------------------------------------------------------


def test_float32(layer):
    x = torch.randn(5, 16)
    with torch.no_grad():
        found = product(x, (layer.weight, layer.bias))
        torch.testing.assert_close(found, layer(x))
        assert held_for([(layer.weight, layer.bias)], None) is None


@pytest.mark.parametrize('dtype', [torch.float64, torch.float16])
def test_precisions_that_onednn_lacks(layer, dtype):
    layer.to(dtype)
    x = torch.randn(5, 16).to(dtype)
    with torch.no_grad():
        torch.testing.assert_close(product(x, (layer.weight, layer.bias)), layer(x))


def test_no_rows(layer):
    with torch.no_grad():
        assert product(torch.zeros(0, 16), (layer.weight, layer.bias)).shape == (0, 24)


@needs_bf16
def test_bfloat16_is_that_of_autocast(layer):
    weights = layer.weight, layer.bias
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        [held] = held_for([weights], torch.bfloat16)
        for rows in (1, 5, 40):
            x = torch.randn(rows, 16)
            found = product(x, weights, held)
            assert found.dtype == torch.bfloat16
            assert torch.equal(found, product(x, weights))
            assert torch.equal(found, F.linear(x, *weights))
    assert layer.weight.dtype == torch.float32


def test_what_does_not_fit(layer):
    with torch.no_grad():
        with pytest.raises(RuntimeError, match='shapes cannot be multiplied'):
            product(torch.randn(5, 15), (layer.weight, layer.bias))
        for dtype in (torch.float64, torch.bfloat16, torch.int64):
            with pytest.raises(RuntimeError, match='dtype'):
                product(torch.zeros(5, 16, dtype=dtype), (layer.weight, layer.bias))


# ---- dynamic convolution -----------------------------------------------


def test_gradients_are_those_of_the_weights(conv):
    found = []
    for state in (disabled, lambda: accelerated(conv, torch.bfloat16)):
        features, roi = (x.requires_grad_() for x in inputs())
        with state():
            conv(features, roi).square().sum().backward()
        found.append([features.grad, roi.grad, *(p.grad for p in conv.parameters())])
        conv.zero_grad()
    for plain, fast in zip(*found):
        assert fast.abs().sum() > 0
        torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-4)


def test_operations_are_counted(conv):
    features, roi = inputs()
    wanted = 2 * 5 * (16 * 2 * 16 * 4 + 2 * 9 * 16 * 4 + 9 * 16 * 16)
    with torch.no_grad():
        assert bench.count_flops(lambda: conv(features, roi)) == wanted
        for dtype in (None, torch.bfloat16):
            with torch.autocast('cpu', dtype, enabled=dtype is not None), accelerated(conv, dtype):
                assert bench.count_flops(lambda: conv(features, roi)) == wanted


@pytest.mark.skipif(not PRECISIONS, reason='PyTorch without oneDNN')
def test_onednn_computes_in_testing(conv):
    def products(enabled=True):
        with torch.backends.mkldnn.flags(enabled=enabled), Operators() as found:
            conv(*inputs())
        return found.calls[PRODUCT]

    with accelerated(conv):
        assert products() == 0  # with gradients
        with torch.no_grad():
            assert products() == 3
            assert products(enabled=False) == 0
    with torch.no_grad():
        assert products() == 0


@needs_bf16
def test_onednn_computes_in_bfloat16_where_weights_are_held(conv):
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        for dtype, count in ((None, 0), (torch.bfloat16, 3)):
            with accelerated(conv, dtype), Operators() as found:
                conv(*inputs())
            assert found.calls[PRODUCT] == count


@needs_bf16
def test_held_twice(conv):
    with torch.no_grad(), accelerated(conv, torch.bfloat16):
        outer = conv.held
        with accelerated(conv, torch.bfloat16):
            assert conv.held is not outer
        assert conv.held is outer


@pytest.mark.parametrize('whole', [True, False])
def test_compiled(conv, whole):
    """Modules compiled in place, and functions of someone else's."""
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph.code)
        return graph.forward

    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16), accelerated(conv, torch.bfloat16):
        wanted = conv(*inputs())
        if whole:
            conv.compile(backend=backend)
            call = conv
        else:
            call = torch.compile(lambda *a: conv(*a), backend=backend)
        torch.testing.assert_close(call(*inputs()), wanted)
    # inductor cannot lower what works on packed weights
    [code] = graphs
    assert 'linear' in code and 'mkldnn' not in code


def test_a_call_for_each_iteration_compiles_once(conv):
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    conv.compile(backend=backend)
    for _ in range(3):
        with accelerated(conv):
            conv(*inputs())
    assert len(graphs) == 1


def test_traced_and_shapes_only(conv):
    with torch.no_grad(), accelerated(conv):
        traced = torch.jit.trace(conv, inputs())
        torch.testing.assert_close(traced(*inputs()), conv(*inputs()))
        conv.to('meta')
        assert conv(*(x.to('meta') for x in inputs())).shape == (5, 16)


def test_rows_at_a_time_are_all_rows(conv, monkeypatch):
    features, roi = inputs(23)
    with torch.no_grad():
        whole = conv(features, roi)
        monkeypatch.setattr(groups, 'GROUP_BYTES', 5 * 16 * 4 * 4)
        sizes = []
        with accelerated(conv):
            one_by_one = conv._filter
            conv._filter = lambda x, y: sizes.append(len(x)) or one_by_one(x, y)
            torch.testing.assert_close(conv(features, roi), whole)
    assert sizes == [5, 5, 5, 5, 3]


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
