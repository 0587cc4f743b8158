"""D3PM for labels."""

import pytest
import torch
import torch.nn.functional as F

from mmdiffdet.diffusion import D3PMScheduler

K = 3


def scheduler(**kwargs):
    return D3PMScheduler(K, **kwargs)


def transition(kernel, ratio):
    """(K + 1, K + 1) one-step matrix Q[from, to]."""
    states = K + 1
    noise = torch.full((states, states), 1 / states)
    if kernel == 'mask':
        noise = F.one_hot(torch.full((states,), K), states).float()
    return ratio * torch.eye(states) + (1 - ratio) * noise


@pytest.mark.parametrize('kernel', ['mask', 'uniform'])
@pytest.mark.parametrize(
    'schedule', ['sqrt_alphas_cumprod', 'alphas_cumprod', 'linear', 'constant']
)
def test_forward_is_a_distribution(kernel, schedule):
    d3pm = scheduler(kernel=kernel, keep_schedule=schedule, keep_const=0.7)
    labels = torch.arange(K + 1).expand(3, -1)
    noisy = d3pm.add_noise(labels, torch.tensor([0, 500, 999]))
    assert torch.allclose(noisy.sum(-1), torch.ones(3, K + 1))
    keep = d3pm.keep_prob(torch.tensor([0, 500, 999]))
    if kernel == 'mask':
        assert torch.allclose(noisy[:, 0, 0], keep)
        assert torch.allclose(noisy[:, K, K], torch.ones(3))
    else:
        assert torch.allclose(noisy[:, 0, 1], (1 - keep) / (K + 1))


def test_keep_power_then_floor():
    d3pm = scheduler(keep_schedule='linear', keep_power=2, keep_min=0.2)
    t = torch.tensor([0, 333, 999, -1])
    expected = [1, (1 - 333 / 999) ** 2, 0.2, 1]
    assert torch.allclose(d3pm.keep_prob(t), torch.tensor(expected))


@pytest.mark.parametrize('kernel', ['mask', 'uniform'])
def test_posterior_is_bayes(kernel):
    """Equation 4 of D3PM with explicit matrices, for each observed state."""
    d3pm = scheduler(kernel=kernel, update='posterior')
    t, following = 700, 300
    logits = torch.randn(1, K + 1, K)
    p0 = F.pad(logits.softmax(-1), (0, 1))[0]
    keep_t, keep_s = (float(d3pm.keep[i]) for i in (t, following))
    to_s = transition(kernel, keep_s)
    s_to_t = transition(kernel, keep_t / keep_s)
    observed = torch.arange(K + 1)
    expected = (p0 @ to_s) * s_to_t[:, observed].T
    expected = expected / expected.sum(-1, keepdim=True)
    found = d3pm.step(logits, t, observed[None], following).prev_sample[0]
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize('kernel', ['mask', 'uniform'])
def test_posterior_ends_at_the_prediction(kernel):
    d3pm = scheduler(kernel=kernel, update='posterior')
    logits = torch.randn(2, 5, K)
    state = d3pm.prior(2, 5)
    found = d3pm.step(logits, 249, state, -1).prev_sample
    assert torch.allclose(found.sum(-1), torch.ones(2, 5))
    if kernel == 'mask':  # nothing was observed, so p(c_0) decides alone
        assert torch.allclose(found[..., :K], logits.softmax(-1), atol=1e-6)


def test_posterior_of_what_cannot_be_observed():
    """keep(t) = 0 and a label all the same; a label that p0 rules out."""
    d3pm = scheduler(keep_schedule='linear', update='posterior')
    observed = torch.tensor([[0, 1, K]])
    logits = torch.tensor([[[0.0, 0.0, 0.0], [200.0, 0.0, 0.0], [0.0, 0.0, 0.0]]])
    for t in (999, 500):
        logits.requires_grad_().grad = None
        found = d3pm.step(logits, t, observed, 300).prev_sample
        found.square().sum().backward()
        assert logits.grad.isfinite().all()
        assert found.isfinite().all()
        assert torch.allclose(found.sum(-1), torch.ones(1, 3))


def test_step_finds_the_next_timestep_itself():
    d3pm = scheduler()
    d3pm.set_timesteps(4)
    logits, state = torch.randn(1, 2, K), d3pm.prior(1, 2)
    expected = d3pm.step(logits, 999, state, int(d3pm.timesteps[1]))
    assert torch.equal(d3pm.step(logits, 999, state).prev_sample, expected.prev_sample)


def test_sampled_ids_follow_the_distribution():
    d3pm = scheduler()
    p = torch.tensor([0.1, 0.2, 0.0, 0.7]).expand(1, 20000, -1)
    ids = d3pm.sample_ids(p, torch.rand(1, 20000))
    share = F.one_hot(ids, K + 1).float().mean((0, 1))
    assert torch.allclose(share, p[0, 0], atol=0.015)
    assert share[2] == 0


def test_save_and_load(tmp_path):
    scheduler(kernel='uniform', keep_power=3.0).save_pretrained(tmp_path)
    loaded = D3PMScheduler.from_pretrained(tmp_path)
    assert loaded.config.kernel == 'uniform'
    assert torch.equal(loaded.keep, scheduler(kernel='uniform', keep_power=3.0).keep)


@pytest.mark.parametrize(
    'bad, message',
    [
        (dict(kernel='masked'), "choose from .'mask', 'uniform'"),
        (dict(keep_schedule='cosine'), 'sqrt_alphas_cumprod'),
        (dict(update='exact'), 'posterior'),
        (dict(keep_min=1.5), 'keep_min'),
        (dict(keep_power=-1), 'keep_power'),
    ],
)
def test_bad_arguments(bad, message):
    with pytest.raises(ValueError, match=message):
        scheduler(**bad)


@pytest.mark.parametrize('label', [-1, K + 1])
def test_label_out_of_range(label):
    with pytest.raises(ValueError, match='out of range'):
        scheduler().add_noise(torch.tensor([[0, label]]), torch.tensor([3]))
