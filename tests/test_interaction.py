"""Attention among proposals: one result, however it is computed."""

import pytest
import torch
from torch import nn

from mmdiffdet.models.interaction import SelfAttention


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


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_a_bias_of_zero_changes_no_bit(attention, dtype):
    features = torch.randn(3, 7, 16)
    with torch.no_grad(), torch.autocast('cpu', dtype, enabled=dtype != torch.float32):
        wanted, _ = attention(features)
        found, _ = attention(features, bias=torch.zeros(1, 4, 7, 7))
    assert found.dtype == dtype and torch.equal(found, wanted)
