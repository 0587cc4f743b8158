"""Diffusion at the edges of its cases, values by hand."""

import hashlib

import pytest
import torch
from mmengine.structures import InstanceData

from mmdiffdet.diffusion import (
    BoxCodec,
    D3PMScheduler,
    DiffusionSampler,
    PerImageNoise,
    Prediction,
    QualityGuidance,
    build_box_scheduler,
    corrupt,
    training_scheduler,
)
from mmdiffdet.diffusion.corruption import NoisyProposals, label_statistics
from mmdiffdet.diffusion.noise import stable_seed
from mmdiffdet.diffusion.time_schedule import TimeSchedule
from mmdiffdet.diffusion.timesteps import draw_timesteps

SIZES = torch.tensor([[60.0, 80.0]])


@pytest.mark.parametrize(
    'sigma, expected',
    [((2, 2, 2, 2), [1, 1, 1, 1]), ((1, 1, 2, 2), [2, 2, 1, 1]), ((1, 1, 1, 1), [2, 2, 2, 2])],
)
def test_the_limit_is_divided_by_each_deviation(sigma, expected):
    codec = BoxCodec(noise_sigma=sigma)
    for sign in (1, -1):
        clamped = codec.clamp(torch.full((1, 1, 4), sign * 9.0)).flatten()
        assert clamped.tolist() == [sign * value for value in expected]


def test_ends_of_the_codecs_options():
    assert BoxCodec(noise_mean=(2, -2, 0, 0)).noise_mean == (2, -2, 0, 0)
    for bad in (dict(scale=torch.inf), dict(noise_sigma=(1, 1, torch.inf, 1))):
        with pytest.raises(ValueError, match=next(iter(bad))):
            BoxCodec(**bad)


def test_ddim_between_neighbours_is_at_the_first_timestep_not_at_the_data():
    scheduler = build_box_scheduler(dict(type='DDIMScheduler'))
    scheduler.set_timesteps(1000)
    x0, x = torch.randn(2, 1, 3, 4, dtype=torch.float64)
    a, b = scheduler.alphas_cumprod[1].double(), scheduler.alphas_cumprod[0].double()
    expected = b.sqrt() * x0 + (1 - b).sqrt() * (x - a.sqrt() * x0) / (1 - a).sqrt()
    found = scheduler.step(x0, 1, x, eta=0.0).prev_sample
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=0)


def test_signals_are_not_clipped_by_a_scheduler():
    """They reach from -2 to 2, and clipping is the codec's work."""
    scheduler = build_box_scheduler(dict(type='DDPMScheduler'))
    scheduler.set_timesteps(1)
    x0 = torch.tensor([[[2.0, -2.0, 1.5, 0.5]]])
    found = scheduler.step(x0, 999, torch.zeros(1, 1, 4)).prev_sample
    torch.testing.assert_close(found, x0)


def test_renewed_boxes_are_noise_in_any_schedulers_units():
    """Euler's signal is many times as large; what the network sees is not."""
    run = DiffusionSampler(
        dict(type='EulerDiscreteScheduler'),
        sampling_timesteps=3,
        renewal=dict(type='BoxRenewal', score_thr=1.0),
    )
    seen = []
    target = torch.tensor([[[20.0, 10.0, 60.0, 40.0]]]).expand(1, 5, 4)
    run(
        lambda *_: Prediction(target, torch.zeros(1, 5, 2)),
        BoxCodec(),
        SIZES,
        5,
        PerImageNoise.from_seed(0, [1]),
        callback=seen.append,
    )
    fresh = PerImageNoise.from_seed(0, [1]).spawn('renewal')
    for step in seen[1:]:
        expected = BoxCodec().decode(fresh(5, 4), SIZES)
        torch.testing.assert_close(step.boxes, expected, atol=1e-3, rtol=0)


def corrupted(objects, num, **options):
    scheduler = training_scheduler(build_box_scheduler(dict(type='DDIMScheduler')))
    return corrupt(objects, SIZES, num, BoxCodec(), scheduler, torch.tensor([9]), **options)


def objects_of(count):
    boxes = torch.arange(count)[:, None] * 4.0 + torch.tensor([1.0, 2, 11, 22])
    return InstanceData(bboxes=boxes, labels=torch.arange(count) % 3)


def test_an_image_without_objects_has_a_box_of_its_own_size():
    noisy = corrupted([objects_of(0)], 3, label_scheduler=D3PMScheduler(3))
    torch.testing.assert_close(noisy.signal[0, 0], torch.tensor([0.0, 0, 2, 2]))
    assert noisy.clean_labels.tolist() == [[3, 3, 3]]


def test_boxes_that_fill_up_are_around_the_middle():
    """Normalised, of mean 1/2 and deviation 1/6, and with a width and a height."""
    noisy = corrupted([objects_of(1)], 8001, label_scheduler=D3PMScheduler(3))
    filler = (noisy.signal[0, 1:] / 2 + 1) / 2
    torch.testing.assert_close(filler.mean(0), torch.full((4,), 0.5), atol=0.01, rtol=0)
    torch.testing.assert_close(filler.std(0), torch.full((4,), 1 / 6), atol=0.006, rtol=0)
    low = filler.amin(0)
    assert (low[:2] < 0).all() and low[2:].tolist() == pytest.approx([1e-4] * 2, abs=1e-6)
    assert noisy.clean_labels[0, :2].tolist() == [0, 3]


@pytest.mark.parametrize('count', [3, 4, 5])
def test_objects_are_drawn_only_where_they_are_too_many(count):
    expected = BoxCodec().to_signal(BoxCodec().normalize(objects_of(count).bboxes[None], SIZES))[0]
    noisy = corrupted([objects_of(count)], 4, label_scheduler=D3PMScheduler(3))
    if count <= 4:  # in their order
        torch.testing.assert_close(noisy.signal[0, :count], expected)
        assert noisy.clean_labels[0].tolist() == [0, 1, 2, 0 if count == 4 else 3]
    else:
        distance = torch.cdist(noisy.signal[0], expected)
        chosen = distance.argmin(1)
        assert distance.amin(1).max() < 1e-5 and len(set(chosen.tolist())) == 4
        assert noisy.clean_labels[0].tolist() == (chosen % 3).tolist()


def test_statistics_of_labels():
    """Of two objects one is known; unknown places do not count; none at all is no error."""
    d3pm = D3PMScheduler(3, keep_schedule='linear')
    clean, state = torch.tensor([[0, 1, 3], [3, 3, 3]]), torch.tensor([[0, 3, 2], [3, 3, 3]])
    boxes = torch.zeros(2, 3, 4)
    t = torch.tensor([0, 999])
    found = label_statistics(NoisyProposals(boxes, t, state, clean), d3pm)
    assert found['label_keep_prob'] == 0.5 and found['label_non_unk_ratio'] == 0.5
    nothing = NoisyProposals(boxes, t, state, torch.full_like(clean, 3))
    assert label_statistics(nothing, d3pm)['label_non_unk_ratio'] == 0


def test_seeds_are_the_same_on_every_machine():
    """The first 63 bits of a SHA-256."""
    digest = hashlib.sha256(b'3/a.png').hexdigest()
    assert stable_seed(3, 'a.png') == int(digest[:16], 16) // 2


def test_ends_of_the_label_schedule():
    d3pm = D3PMScheduler(3, keep_schedule='constant', keep_const=0.7)
    torch.testing.assert_close(
        d3pm.keep_prob(torch.tensor([-1, 0, 1])), torch.tensor([1.0, 0.7, 0.7])
    )
    assert (D3PMScheduler(3, keep_power=0.0).keep == 1).all()
    assert TimeSchedule('linear', power=0.0)(torch.tensor([500])).item() == 1
    with pytest.raises(ValueError, match='power'):
        TimeSchedule('linear', power=-0.1)


@pytest.mark.parametrize('steps', [1, 3, 7])
def test_labels_are_sampled_at_the_boxes_timesteps(steps):
    boxes = build_box_scheduler(dict(type='DDIMScheduler'))
    d3pm = D3PMScheduler(3, update='posterior')
    for scheduler in (boxes, d3pm):
        scheduler.set_timesteps(steps)
    assert d3pm.timesteps.tolist() == boxes.timesteps.tolist()
    # after the last comes the data
    logits, state = torch.randn(1, 2, 3), d3pm.prior(1, 2)
    last = int(d3pm.timesteps[-1])
    expected = d3pm.step(logits, last, state, -1).prev_sample
    assert torch.equal(d3pm.step(logits, last, state).prev_sample, expected)


def test_a_flow_never_steps_onto_the_data_before_its_end():
    """Two steps that do not coincide, of which the second rounds to sigma 0."""
    scheduler = build_box_scheduler(dict(type='FlowMatchEulerDiscreteScheduler', shift=1e-4))
    with pytest.raises(ValueError, match='coincide'):
        scheduler.set_timesteps(2)


def test_the_noisiest_draw_is_the_last_timestep(monkeypatch):
    run = DiffusionSampler(dict(type='DDIMScheduler'))
    monkeypatch.setattr(torch, 'randn', lambda *size, device: torch.full(size, 99.0))
    found = draw_timesteps('logit_normal', run, 2, torch.device('cpu'))
    assert found.tolist() == [999, 999]


def guided(guidance, boxes, logits, best, size=(100.0, 200.0)):
    def quality(boxes):
        return -((boxes - best) / 50).square().sum(-1)

    given = Prediction(boxes, logits, quality(boxes), quality)
    noise = PerImageNoise.from_seed(0, [0])
    return guidance(given, torch.tensor(999), True, torch.tensor([size]), noise)


BOXES = torch.tensor([[[20.0, 25, 60, 65], [35, 40, 75, 80], [50, 50, 70, 60]]])
LOGITS = torch.tensor([[[2.0], [-1.0], [-3.0]]])
BEST = torch.tensor([30.0, 30, 70, 70])


@pytest.mark.parametrize('score_weight', [True, False])
def test_a_global_step_is_along_the_gradient_of_all(score_weight):
    """Of the two best proposals, weighted by their scores; its length is that of all."""
    found = guided(
        QualityGuidance(2.0, topk=2, grad_norm='global', score_weight=score_weight),
        BOXES,
        LOGITS,
        BEST,
    )
    boxes = BOXES.clone().requires_grad_()
    quality = (-((boxes - BEST) / 50).square().sum(-1)).sigmoid()
    weight = LOGITS[..., 0].sigmoid() if score_weight else torch.ones(1, 3)
    (quality * weight)[:, :2].sum().backward()
    expected = BOXES + 2 * boxes.grad / boxes.grad.norm()
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


def test_guidance_with_fewer_proposals_than_topk():
    moved = guided(QualityGuidance(2.0), BOXES, LOGITS, BEST) - BOXES
    torch.testing.assert_close(moved.norm(dim=-1), torch.full((1, 3), 2.0), atol=0.03, rtol=0)


def test_each_round_adds_noise_of_so_many_pixels():
    guidance = QualityGuidance(1e-6, noise_scale=0.25, langevin_steps=2)
    noise = PerImageNoise.from_seed(0, [0])
    expected = BOXES + 0.25 * noise(3, 4) + 0.25 * noise(3, 4)
    found = guided(guidance, BOXES, LOGITS, BEST)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_guided_boxes_lie_in_the_image_and_have_a_size():
    boxes = torch.tensor([[[-5.0, -6, 300, 400], [0, 0, 0, 0], [35, 40, 75, 80]]])
    logits = torch.tensor([[[-2.0], [-1.0], [3.0]]])
    found = guided(QualityGuidance(2.0, topk=1), boxes, logits, BEST)[0]
    assert found[0].tolist() == [0, 0, 200, 100]
    assert found[1].tolist() == pytest.approx([0, 0, 1e-6, 1e-6], rel=1e-3)
