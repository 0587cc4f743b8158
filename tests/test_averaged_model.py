"""The average of weights that is updated at once, against MMEngine's."""

import copy

import pytest
import torch
from mmdet.models.layers import ExpMomentumEMA
from mmengine.model import ExponentialMovingAverage
from tiny import Operators
from torch import nn

from mmdiffdet.engine import ForeachEMA


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def train(model, averages, iterations):
    generator = torch.Generator().manual_seed(1)
    for _ in range(iterations):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn(p.shape, generator=generator))
        model(torch.randn(8, 3, generator=generator))  # the statistics move
        for average in averages:
            average.update_parameters(model)


@pytest.mark.parametrize('update_buffers', [False, True])
@pytest.mark.parametrize('interval', [1, 3])
@pytest.mark.parametrize('gamma', [None, 5])
def test_it_is_mmengine_s(gamma, interval, update_buffers):
    options = dict(momentum=0.1, interval=interval, update_buffers=update_buffers)
    model = network()
    ours = ForeachEMA(model, gamma=gamma, **options)
    if gamma is None:
        theirs = ExponentialMovingAverage(model, **options)
    else:
        theirs = ExpMomentumEMA(model, gamma=gamma, **options)
    train(model, (ours, theirs), 8)
    found, expected = ours.state_dict(), theirs.state_dict()
    assert found.keys() == expected.keys() and int(found['steps']) == 8
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0 if gamma is None else 1e-5, atol=1e-6)
    assert not torch.equal(found['module.0.weight'], model[0].weight)


def test_it_goes_on_from_a_checkpoint():
    """Also one that MMEngine's average has written."""
    for kind in (ForeachEMA, ExponentialMovingAverage):
        model = network()
        whole, first = ForeachEMA(model, 0.1), kind(model, 0.1)
        train(model, (whole, first), 4)
        second = ForeachEMA(copy.deepcopy(model), 0.1)
        second.load_state_dict(first.state_dict())
        train(model, (whole, second), 4)
        for name, value in whole.state_dict().items():
            assert torch.equal(second.state_dict()[name], value)


def test_few_kernels_are_launched():
    layers = (layer for _ in range(20) for layer in (nn.Linear(3, 3), nn.BatchNorm1d(3)))
    model = nn.Sequential(*layers)
    average = ForeachEMA(model, 0.1, gamma=100)
    average.update_parameters(model)
    with Operators() as count:
        average.update_parameters(model)
    assert count.calls['_foreach_lerp_'] == 1 and count.calls['_foreach_copy_'] == 2
    assert count.launches <= 4  # 80 weights, 60 buffers of two types, and the counter
    with Operators() as count:
        ExponentialMovingAverage(model, 0.1).update_parameters(model)
    assert count.launches > 100


@pytest.mark.parametrize(
    'bad', [dict(momentum=1.0), dict(momentum=0.0), dict(gamma=0), dict(interval=0)]
)
def test_bad_numbers_are_refused(bad):
    ForeachEMA(network(), momentum=0.9, gamma=0.5, interval=1)
    with pytest.raises(ValueError, match='ForeachEMA: '):
        ForeachEMA(network(), **bad)
