"""Box signal, schedulers and the reverse process, without a network."""

import pytest
import torch
from mmengine.structures import InstanceData

from mmdiffdet.diffusion import (
    BoxCodec,
    BoxRenewal,
    DiffusionSampler,
    PerImageNoise,
    Prediction,
    StepEnsemble,
    build_box_scheduler,
    corrupt,
    sample,
    training_scheduler,
)
from mmdiffdet.diffusion.box_schedulers import has_eta
from mmdiffdet.diffusion.noise import hashed_uniform
from mmdiffdet.registry import BOX_SCHEDULERS

SIZES = torch.tensor([[96.0, 128.0], [60.0, 80.0]])
T = torch.tensor([500])  # a timestep
SOLVERS = (
    'DDIMScheduler',
    'DDPMScheduler',
    'LCMScheduler',
    'EulerDiscreteScheduler',
    'DPMSolverMultistepScheduler',
    'UniPCMultistepScheduler',
    'FlowMatchEulerDiscreteScheduler',
)


def test_of_all_schedulers_ddim_has_eta():
    assert set(SOLVERS) == set(BOX_SCHEDULERS.module_dict)
    takes = {name for name in SOLVERS if has_eta(build_box_scheduler(dict(type=name)))}
    assert takes == {'DDIMScheduler'}


@pytest.mark.parametrize('name', sorted(set(SOLVERS) - {'DDIMScheduler'}))
def test_an_eta_that_does_nothing_is_told(name):
    with pytest.warns(UserWarning, match=f'eta=0.5 changes nothing: {name}'):
        sampler(name, eta=0.5)


def test_an_eta_that_is_not_given_is_not_told(recwarn):
    for name in SOLVERS:
        sampler(name)
    sampler(eta=0.5)
    assert not [w for w in recwarn if 'eta' in str(w.message)]


def sampler(name='DDIMScheduler', **kwargs):
    return DiffusionSampler(dict(type=name), **kwargs)


def constant_denoiser(target, logit=5.0):
    """A network that always finds ``target`` (N, 4) and sees nothing else."""

    def denoise(boxes, label_state, t):
        batch, num = boxes.shape[:2]
        return Prediction(target.expand(batch, num, 4), torch.full((batch, num, 2), logit))

    return denoise


@pytest.mark.parametrize('sigma', [(1, 1, 1, 1), (0.5, 0.5, 2, 3)])
def test_codec_inverts(sigma):
    codec = BoxCodec(noise_sigma=sigma)
    boxes = torch.tensor([[[5.0, 6.0, 50.0, 60.0], [0.0, 0.0, 80.0, 60.0]]])
    signal = codec.encode(boxes, SIZES[1:])
    assert torch.allclose(codec.decode(signal, SIZES[1:]), boxes, atol=1e-4)
    # b = 0.5 is the middle of the signal
    middle = codec.encode(torch.tensor([[[20.0, 15.0, 60.0, 45.0]]]), SIZES[1:])
    assert torch.allclose(middle, torch.zeros(1, 1, 4), atol=1e-6)


def test_codec_clamps_in_undivided_units():
    codec = BoxCodec(noise_sigma=(1, 1, 2, 4))
    clamped = codec.clamp(torch.full((1, 1, 4), 9.0))
    assert clamped.flatten().tolist() == [2, 2, 1, 0.5]


@pytest.mark.parametrize(
    'bad', [dict(scale=0), dict(noise_sigma=(1, 1, 1)), dict(noise_sigma=(1, 1, 0, 1))]
)
def test_codec_rejects(bad):
    with pytest.raises(ValueError, match='BoxCodec'):
        BoxCodec(**bad)


@pytest.mark.parametrize('steps', [1, 3, 7, 20, 1000])
def test_ddim_visits_its_timesteps(steps):
    scheduler = build_box_scheduler(dict(type='DDIMScheduler'))
    scheduler.set_timesteps(steps)
    assert len(scheduler.timesteps) == steps
    assert scheduler.timesteps[0] == 999
    # the last step ends at the prediction, whatever n
    x0, x = torch.randn(2, 5, 4), torch.randn(2, 5, 4)
    last = scheduler.step(x0, scheduler.timesteps[-1], x, eta=0)
    assert torch.allclose(last.prev_sample, x0, atol=1e-4)


def test_ddim_step_is_equation_12():
    scheduler = build_box_scheduler(dict(type='DDIMScheduler'))
    scheduler.set_timesteps(3)
    t, following = 999, int(scheduler.timesteps[1])
    abar = scheduler.alphas_cumprod.double()
    x0, x, z = torch.randn(3, 1, 4, 4, dtype=torch.float64)
    a, b = abar[t], abar[following]
    e = (x - a.sqrt() * x0) / (1 - a).sqrt()
    sigma = ((1 - b) / (1 - a)).sqrt() * (1 - a / b).sqrt()
    expected = b.sqrt() * x0 + (1 - b - sigma**2).sqrt() * e + sigma * z
    found = scheduler.step(x0, t, x, eta=1.0, variance_noise=z).prev_sample
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize('name', SOLVERS)
@pytest.mark.parametrize('steps', [1, 4, 7])
def test_every_solver_reaches_what_the_network_sees(name, steps):
    target = torch.tensor([[20.0, 10.0, 60.0, 40.0]])
    run = sampler(name, sampling_timesteps=steps, eta=0.5)
    seen = []
    result = run(
        constant_denoiser(target),
        BoxCodec(),
        SIZES,
        6,
        PerImageNoise.from_seed(0, [1, 2]),
        callback=seen.append,
    )
    assert torch.equal(result[-1].boxes, target.expand(2, 6, 4))
    assert len(seen) == steps
    assert seen[0].t == 999
    if steps > 1:  # noise has given way to the target
        first = (seen[0].boxes - target).abs().mean()
        last = (seen[-1].boxes - target).abs().mean()
        assert last < 0.7 * first


def test_a_thousand_steps():
    run = sampler(sampling_timesteps=1000)
    target = torch.tensor([[20.0, 10.0, 60.0, 40.0]])
    run(constant_denoiser(target), BoxCodec(), SIZES, 3, PerImageNoise.from_seed(0, [1, 2]))


def test_unknown_scheduler_lists_the_known():
    with pytest.raises(ValueError) as error:
        sampler('DDIMSchedular')
    for name in SOLVERS:
        assert name in str(error.value)


def test_unknown_argument_of_scheduler():
    with pytest.raises(ValueError, match='does not take'):
        DiffusionSampler(dict(type='DDIMScheduler', sigmas=3))


@pytest.mark.parametrize('steps', [0, 1001, -1, 2.5])
def test_sampling_timesteps_out_of_range(steps):
    with pytest.raises(ValueError, match='from 1 to 1000'):
        sampler(sampling_timesteps=steps)


@pytest.mark.parametrize('name', ['DPMSolverMultistepScheduler', 'UniPCMultistepScheduler'])
def test_multistep_solver_refuses_renewal(name):
    with pytest.raises(ValueError, match='renewal=None'):
        sampler(name, renewal=dict(type='BoxRenewal'))


def test_unipc_has_a_history_at_every_order():
    with pytest.raises(ValueError, match='renewal=None'):
        DiffusionSampler(
            dict(type='UniPCMultistepScheduler', solver_order=1), renewal=dict(type='BoxRenewal')
        )
    DiffusionSampler(
        dict(type='DPMSolverMultistepScheduler', solver_order=1), renewal=dict(type='BoxRenewal')
    )


def test_noise_depends_on_seed_and_image_only():
    both = PerImageNoise.from_seed(3, ['a', 7])
    alone = PerImageNoise.from_seed(3, [7])
    for _ in range(3):
        assert torch.equal(both(5, 4)[1], alone(5, 4)[0])
    other = PerImageNoise.from_seed(4, [7])
    assert not torch.equal(alone(5, 4), other(5, 4))


def test_spawned_noise_leaves_the_rest_alone():
    plain, spawning = (PerImageNoise.from_seed(0, [1]) for _ in range(2))
    spawning.spawn('labels').rand(9)
    assert torch.equal(plain(4), spawning(4))


def test_renewal_is_per_image_and_fresh():
    """Image 0 keeps its proposals, image 1 loses those below the score."""
    target = torch.tensor([[20.0, 10.0, 60.0, 40.0]])

    def denoise(boxes, label_state, t):
        logits = torch.full((2, 6, 2), 3.0)
        logits[1, :4] = -3.0
        return Prediction(target.expand(2, 6, 4), logits)

    seen = []
    run = sampler(sampling_timesteps=3, renewal=dict(type='BoxRenewal'))
    run(denoise, BoxCodec(), SIZES, 6, PerImageNoise.from_seed(0, [1, 2]), callback=seen.append)
    for step in seen[:-1]:
        assert not step.renewed[0].any()
        assert step.renewed[1].tolist() == [True] * 4 + [False] * 2
    assert seen[-1].renewed is None
    plain = []
    sampler(sampling_timesteps=3)(
        denoise, BoxCodec(), SIZES, 6, PerImageNoise.from_seed(0, [1, 2]), callback=plain.append
    )
    # renewed ones begin anew: their boxes scatter as in the first step
    assert torch.equal(plain[1].boxes[0], seen[1].boxes[0])
    assert not torch.equal(plain[1].boxes[1, :4], seen[1].boxes[1, :4])


def test_renewal_at_the_threshold():
    logits = torch.zeros(1, 2, 1)  # sigmoid is exactly 0.5
    logits[0, 1] = 0.01
    renewed = BoxRenewal(0.5)(Prediction(torch.zeros(1, 2, 4), logits))
    assert renewed.tolist() == [[True, False]]


def test_ensemble():
    steps = ['a', 'b', 'c']
    assert StepEnsemble()(steps) == steps
    assert StepEnsemble(include_last=False)(steps) == ['a', 'b']
    assert StepEnsemble(include_last=False)(['a']) == ['a']


def forward_process():
    return training_scheduler(build_box_scheduler(dict(type='DDIMScheduler')))


@pytest.mark.parametrize('count', [0, 2, 30])
def test_corrupt_any_number_of_objects(count):
    objects = InstanceData(
        bboxes=torch.tensor([[10.0, 10.0, 40.0, 30.0]]).repeat(count, 1),
        labels=torch.ones(count, dtype=torch.long),
    )
    noisy = corrupt([objects], SIZES[:1], 8, BoxCodec(), forward_process(), T)
    assert noisy.boxes.shape == (1, 8, 4)
    assert noisy.boxes.isfinite().all()
    assert (noisy.boxes[..., 2:] >= noisy.boxes[..., :2]).all()


def test_corrupt_is_the_forward_process(monkeypatch):
    """x_t = sqrt(abar) x_0 + sqrt(1 - abar) e of the object's box."""
    objects = InstanceData(
        bboxes=torch.tensor([[32.0, 24.0, 96.0, 72.0]]), labels=torch.zeros(1, dtype=torch.long)
    )
    monkeypatch.setattr(torch, 'randn_like', lambda x: torch.zeros_like(x))
    noisy = corrupt([objects], SIZES[:1], 3, BoxCodec(), forward_process(), T)
    # the middle box has signal 0: without noise it stays where it is
    assert torch.allclose(noisy.boxes[0, 0], objects.bboxes[0], atol=1e-3)


def test_sample_without_timesteps():
    scheduler = build_box_scheduler(dict(type='DDIMScheduler'))
    scheduler.timesteps = torch.tensor([])
    with pytest.raises(ValueError, match='set_timesteps'):
        sample(
            None,
            scheduler,
            torch.zeros(1, 2, 4),
            PerImageNoise.from_seed(0, [0]),
            BoxCodec(),
            SIZES[:1],
        )


def test_hashed_uniform():
    """SplitMix64's own first numbers for seed 1234567, and its moments."""
    draws = hashed_uniform(1234567, 100000, 'cpu').double()
    for value, whole in zip(draws, (6457827717110365317, 3203168211198807973, 9817491932198370423)):
        assert value.item() == ((whole >> 41) + 0.5) / 2**23
    assert 0 < draws.min() and draws.max() < 1
    assert abs(draws.mean() - 1 / 2) < 0.005
    assert abs(draws.var() - 1 / 12) < 0.002
    assert abs(torch.corrcoef(torch.stack([draws[1:], draws[:-1]]))[0, 1]) < 0.01
    assert not torch.equal(draws[:9], hashed_uniform(1234568, 9, 'cpu'))


@pytest.mark.parametrize(
    'options',
    [
        dict(type='DPMSolverMultistepScheduler', algorithm_type='sde-dpmsolver++'),
        dict(type='FlowMatchEulerDiscreteScheduler', stochastic_sampling=True),
        dict(type='EulerDiscreteScheduler'),
        dict(type='DDPMScheduler'),
        dict(type='LCMScheduler'),
    ],
    ids=lambda o: o['type'],
)
def test_schedulers_that_draw_draw_an_image_s_own_noise(options):
    """Not PyTorch's global one: a result depends on (eval seed, image id) alone."""
    target = torch.tensor([[[10.0, 10, 40, 30]]]).expand(1, 3, 4)
    found = []
    for ids, row in (([7], 0), ([3, 7], 1), ([7], 0)):
        torch.manual_seed(len(found))
        run = DiffusionSampler(options, sampling_timesteps=3, renewal=None)
        noise = PerImageNoise.from_seed(0, ids)
        sizes, seen = SIZES[:1].expand(len(ids), 2), []
        run(constant_denoiser(target), BoxCodec(), sizes, 3, noise, callback=seen.append)
        found.append(torch.stack([step.boxes[row] for step in seen]))
    assert len(found[0]) == 3
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
