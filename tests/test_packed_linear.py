"""Linear layers that hold their weights say what nn.Linear says."""
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmdiffdet import benchmark as bench
from mmdiffdet.models import dynamic_conv
from mmdiffdet.models.dynamic_conv import DynamicConv
from mmdiffdet.models.packed_linear import PackedLinear, packed


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
        torch.testing.assert_close(
            layer.part(x, 0), wanted(layer, x)[:, :8])


def test_no_rows(layer):
    with torch.no_grad():
        assert layer.part(torch.zeros(0, 16), 0).shape == (0, 8)


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
        torch.testing.assert_close(
            layer.part(x, 2), wanted(layer, x)[:, 16:])
        parts(layer, x).sum().backward()
    torch.testing.assert_close(
        layer.weight.grad, x.detach().sum(0).expand(24, -1))
    assert x.grad.abs().sum() > 0


def test_operations_are_counted(layer):
    x = torch.randn(5, 16)
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        with packed(layer, torch.bfloat16):
            assert bench.count_flops(
                lambda: parts(layer, x)) == 2 * 5 * 16 * 24
    with torch.no_grad():
        assert bench.count_flops(
                lambda: parts(layer, x)) == 2 * 5 * 16 * 24


def test_compiled_modules_hold_plain_weights(layer):
    layer.compile(backend='eager')
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        x = torch.randn(5, 16)
        with packed(layer, torch.bfloat16):
            assert not any(w.is_mkldnn for w, _ in layer.held)
            assert torch.equal(parts(layer, x), wanted(layer, x))


def test_rows_at_a_time_are_all_rows(monkeypatch):
    torch.manual_seed(0)
    conv = DynamicConv(8, 4, 49)
    features, roi = torch.randn(23, 8), torch.randn(23, 49, 8)
    whole = conv(features, roi)
    monkeypatch.setattr(dynamic_conv, '_BYTES', 5 * 8 * 4 * 4)
    sizes = []
    conv.dynamic_layer.part = lambda x, index: sizes.append(len(x)) or type(
        conv.dynamic_layer).part(conv.dynamic_layer, x, index)
    with torch.no_grad():
        torch.testing.assert_close(conv(features, roi), whole)
    assert sizes[::2] == [5, 5, 5, 5, 3]
