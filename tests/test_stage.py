"""What a stage does to RoI features, apart from its modules."""

import pytest
import torch
from tiny import Operators

from mmdiffdet.models.stage import _mean


@pytest.mark.parametrize('dtype, tolerance', [(torch.float32, 1e-6), (torch.bfloat16, 4e-3)])
@pytest.mark.parametrize('layout', ['channels_last', 'contiguous_format'])
@pytest.mark.parametrize('training', [False, True])
def test_mean_of_rois_by_the_faster_kernel(dtype, tolerance, layout, training):
    torch.manual_seed(0)
    roi = torch.randn(6, 8, 7, 7).to(dtype).contiguous(memory_format=getattr(torch, layout))
    with torch.set_grad_enabled(training), Operators() as operators:
        found = _mean(roi)
    pooled = layout == 'channels_last' and not training
    assert operators.calls['avg_pool2d'] == pooled
    assert found.shape == (6, 8) and found.dtype == dtype
    exact = roi.double().flatten(2).mean(-1)
    assert (found - exact).abs().max() < tolerance


def test_mean_of_no_rois():
    roi = torch.zeros(0, 8, 7, 7).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        assert _mean(roi).shape == (0, 8)
