"""Linear layers that hold their weights say what nn.Linear says."""

import copy

import pytest
import torch
import torch.nn.functional as F
from tiny import Operators
from torch import nn

from mmdiffdet import benchmark as bench
from mmdiffdet.models import groups
from mmdiffdet.models.dynamic_conv import DynamicConv
from mmdiffdet.models.packed_linear import PRECISIONS, PackedLinear, packed

PRODUCT = '_linear_pointwise'  # oneDNN's
needs_bf16 = pytest.mark.skipif(torch.bfloat16 not in PRECISIONS, reason='oneDNN without bfloat16')


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return PackedLinear(16, 24, num_parts=3)


def parts(layer, x):
    return torch.cat([layer.part(x, i) for i in range(3)], 1)


def wanted(layer, x):
    return F.linear(x, layer.weight, layer.bias)


def test_float32(layer):
    x = torch.randn(5, 16)
    with torch.no_grad():
        torch.testing.assert_close(parts(layer, x), wanted(layer, x))
        torch.testing.assert_close(layer.part(x, 1), wanted(layer, x)[:, 8:16])
    assert list(layer.state_dict()) == list(nn.Linear(1, 1).state_dict())


@pytest.mark.parametrize('dtype', [torch.float64, torch.float16])
def test_precisions_that_onednn_lacks(layer, dtype):
    layer.to(dtype)
    x = torch.randn(5, 16).to(dtype)
    with torch.no_grad():
        torch.testing.assert_close(layer.part(x, 0), wanted(layer, x)[:, :8])


def test_no_rows(layer):
    with torch.no_grad():
        assert layer.part(torch.zeros(0, 16), 0).shape == (0, 8)


@needs_bf16
def test_bfloat16_is_that_of_autocast(layer):
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        for rows in (1, 5, 40):
            x = torch.randn(rows, 16)
            alone = parts(layer, x)
            with packed(layer, torch.bfloat16):
                assert len(layer.held) == 3
                held = parts(layer, x)
            assert held.dtype == torch.bfloat16
            assert torch.equal(held, alone)
            assert torch.equal(held, wanted(layer, x))
    for key, value in layer.state_dict().items():
        assert value.dtype == torch.float32 and torch.equal(value, before[key])


def test_what_is_held_goes_even_after_an_error(layer):
    with pytest.raises(KeyError), packed(layer, torch.bfloat16):
        raise KeyError
    assert layer.held is None


def test_gradients_are_those_of_the_weights(layer):
    x = torch.randn(5, 16, requires_grad=True)
    with packed(layer, torch.bfloat16):
        torch.testing.assert_close(layer.part(x, 2), wanted(layer, x)[:, 16:])
        parts(layer, x).sum().backward()
    torch.testing.assert_close(layer.weight.grad, x.detach().sum(0).expand(24, -1))
    assert x.grad.abs().sum() > 0


def test_operations_are_counted(layer):
    x = torch.randn(5, 16)
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        with packed(layer, torch.bfloat16):
            assert bench.count_flops(lambda: parts(layer, x)) == 2 * 5 * 16 * 24
    with torch.no_grad():
        assert bench.count_flops(lambda: parts(layer, x)) == 2 * 5 * 16 * 24


@pytest.mark.skipif(not PRECISIONS, reason='PyTorch without oneDNN')
def test_onednn_computes_in_testing(layer):
    x = torch.randn(5, 16)
    with torch.no_grad(), Operators() as found:
        parts(layer, x)
    assert found.calls[PRODUCT] == 3
    with Operators() as found:
        parts(layer, x)
        with torch.no_grad(), torch.backends.mkldnn.flags(enabled=False):
            parts(layer, x)
    assert found.calls[PRODUCT] == 0


@needs_bf16
def test_onednn_computes_in_bfloat16_where_weights_are_held(layer):
    x = torch.randn(5, 16)
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        with Operators() as found:
            parts(layer, x)
        assert found.calls[PRODUCT] == 0
        with packed(layer, torch.bfloat16), Operators() as found:
            parts(layer, x)
        assert found.calls[PRODUCT] == 3


@pytest.mark.parametrize('whole', [True, False])
def test_compiled(layer, whole):
    """Modules compiled in place, and functions of someone else's."""
    x = torch.randn(5, 16)
    conv = DynamicConv(16, 4, 9)
    roi = torch.randn(5, 9, 16)
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph.code)
        return graph.forward

    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        wanted = conv(x, roi)
        if whole:
            conv.compile(backend=backend)
            call = conv
        else:
            call = torch.compile(lambda *a: conv(*a), backend=backend)
        with packed(conv, torch.bfloat16):
            torch.testing.assert_close(call(x, roi), wanted)
    # inductor cannot lower what works on packed weights
    [code] = graphs
    assert 'linear' in code and 'mkldnn' not in code


def test_traced_and_shapes_only():
    conv = DynamicConv(16, 4, 9)
    inputs = torch.randn(5, 16), torch.randn(5, 9, 16)
    with torch.no_grad():
        traced = torch.jit.trace(conv, inputs)
        torch.testing.assert_close(traced(*inputs), conv(*inputs))
        conv.to('meta')
        assert conv(*(x.to('meta') for x in inputs)).shape == (5, 16)


def test_what_does_not_fit(layer):
    with pytest.raises(ValueError, match='25 outputs'):
        PackedLinear(16, 25, num_parts=2)
    with torch.no_grad():
        with pytest.raises(RuntimeError, match='shapes cannot be multiplied'):
            layer.part(torch.randn(5, 15), 0)
        for dtype in (torch.float64, torch.bfloat16, torch.int64):
            with pytest.raises(RuntimeError, match='dtype'):
                layer.part(torch.zeros(5, 16, dtype=dtype), 0)


@needs_bf16
def test_held_twice_and_copied(layer):
    with packed(layer, torch.bfloat16):
        outer = layer.held
        with packed(layer, torch.bfloat16):
            assert layer.held is not outer
        assert layer.held is outer
        assert copy.deepcopy(layer).held is None
    assert layer.held is None


def test_rows_at_a_time_are_all_rows(monkeypatch):
    torch.manual_seed(0)
    conv = DynamicConv(8, 4, 49)
    features, roi = torch.randn(23, 8), torch.randn(23, 49, 8)
    whole = conv(features, roi)
    monkeypatch.setattr(groups, 'GROUP_BYTES', 5 * 8 * 4 * 4)
    sizes = []
    conv.dynamic_layer.part = lambda x, index: (
        sizes.append(len(x)) or type(conv.dynamic_layer).part(conv.dynamic_layer, x, index)
    )
    with torch.no_grad():
        torch.testing.assert_close(conv(features, roi), whole)
    assert sizes[::2] == [5, 5, 5, 5, 3]
