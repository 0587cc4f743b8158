"""Attention among proposals: one result, however it is computed."""

import pytest
import torch
from torch import nn

from mmdiffdet.models import groups
from mmdiffdet.models.interaction import SelfAttention

SHAPES = [(), (7, 7), (3, 1, 1, 1), (1, 4, 7, 7), (3, 4, 7, 7)]


@pytest.fixture
def attention():
    torch.manual_seed(0)
    return SelfAttention(16, num_heads=4)


def test_it_is_torchs_attention(attention):
    features, position = torch.randn(2, 3, 7, 16)
    query = features + position
    wanted, weights = nn.MultiheadAttention.forward(attention, query, query, features)
    with torch.no_grad():
        found, _ = attention(features, position)
    torch.testing.assert_close(found, wanted)
    found, found_weights = attention(features, position, need_weights=True)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(found_weights, weights)


@pytest.mark.parametrize('shape', SHAPES)
def test_groups_of_images_give_the_same_bits(attention, monkeypatch, shape):
    features, bias = torch.randn(3, 7, 16), torch.randn(shape)
    with torch.no_grad():
        wanted, _ = attention(features, bias=bias)
        monkeypatch.setattr(groups, 'GROUP_BYTES', 2 * 4 * 7 * 7 * 4)
        found, _ = attention(features, bias=bias)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    with_gradient, _ = attention(features, bias=bias)
    torch.testing.assert_close(with_gradient, wanted)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_a_bias_of_zero_changes_no_bit(attention, dtype):
    features = torch.randn(3, 7, 16)
    with torch.no_grad(), torch.autocast('cpu', dtype, enabled=dtype != torch.float32):
        wanted, _ = attention(features)
        found, _ = attention(features, bias=torch.zeros(1, 4, 7, 7))
    assert found.dtype == dtype and torch.equal(found, wanted)
