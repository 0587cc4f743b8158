"""Dynamic convolution by oneDNN says what the plain one says."""

import pytest
import torch
import torch.nn.functional as F
from tiny import Operators
from torch import nn

from mmdiffdet import benchmark as bench
from mmdiffdet.fast import accelerated, disabled, groups
from mmdiffdet.fast.products import PRECISIONS, held_for, product
from mmdiffdet.models import DynamicConv

PRODUCT = '_linear_pointwise'  # oneDNN's
needs_bf16 = pytest.mark.skipif(torch.bfloat16 not in PRECISIONS, reason='oneDNN without bfloat16')


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
