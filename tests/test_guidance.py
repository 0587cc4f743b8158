"""Guidance by a quality that is known in closed form."""

import pytest
import torch

from mmdiffdet.diffusion import PerImageNoise, Prediction, QualityGuidance

SIZES = torch.tensor([[100.0, 100.0], [100.0, 100.0]])
BEST = torch.tensor([30.0, 30.0, 70.0, 70.0])


def prediction(batch=2):
    torch.manual_seed(0)
    boxes = torch.tensor(
        [[20.0, 25.0, 60.0, 65.0], [35.0, 40.0, 75.0, 80.0], [90.0, 10.0, 40.0, -5.0]]
    ).expand(batch, 3, 4)
    logits = torch.tensor([[2.0], [1.0], [-3.0]]).expand(batch, 3, 1)
    return Prediction(
        boxes, logits, torch.zeros(batch, 3), lambda b: -((b - BEST) / 50).square().sum(-1)
    )


def guide(guidance, t=999, is_last=True, given=None):
    given = given or prediction()
    noise = PerImageNoise.from_seed(0, range(len(given.boxes)))
    return guidance(given, torch.tensor(t), is_last, SIZES[: len(given.boxes)], noise)


@pytest.mark.parametrize('norm', ['proposal', 'global'])
def test_quality_rises(norm):
    given = prediction()
    guidance = QualityGuidance(2.0, topk=2, grad_norm=norm, langevin_steps=3)
    before = given.quality_of(given.boxes)[:, :2]
    after = given.quality_of(guide(guidance))[:, :2]
    assert (after > before).all()


def test_one_step_is_scale_pixels_long():
    moved = guide(QualityGuidance(2.0, topk=2)) - prediction().boxes
    length = moved[:, :2].norm(dim=-1)
    assert torch.allclose(length, torch.full_like(length, 2.0), atol=1e-2)


def test_boxes_outside_topk_are_only_made_valid():
    boxes = guide(QualityGuidance(2.0, topk=2))
    assert boxes[0, 2].tolist() == [40.0, 0.0, 90.0, 10.0]


@pytest.mark.parametrize(
    'mode, t, is_last, active',
    [
        ('final', 999, False, False),
        ('final', 999, True, True),
        ('all', 999, False, True),
        ('threshold', 501, True, False),
        ('threshold', 500, False, True),
    ],
)
def test_modes(mode, t, is_last, active):
    guidance = QualityGuidance(2.0, topk=2, mode=mode, t_threshold=500)
    boxes = guide(guidance, t, is_last)
    assert (not torch.equal(boxes, prediction().boxes)) == active


def test_an_image_does_not_depend_on_the_batch():
    guidance = QualityGuidance(2.0, topk=2)
    alone = guide(guidance, given=prediction(1))
    assert torch.equal(guide(guidance)[:1], alone)


def test_needs_a_quality_head():
    given = prediction()
    given.quality_of = None
    with pytest.raises(ValueError, match='QualityHead'):
        guide(QualityGuidance(1.0), given=given)


@pytest.mark.parametrize(
    'bad',
    [
        dict(scale=-1),
        dict(scale=1, topk=0),
        dict(scale=1, mode='first'),
        dict(scale=1, grad_norm='l1'),
        dict(scale=1, noise_scale=-1),
        dict(scale=1, schedule=dict(type='cosine')),
    ],
)
def test_bad_arguments(bad):
    with pytest.raises(ValueError):
        QualityGuidance(**bad)
