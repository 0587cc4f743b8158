"""Flow matching: formulas, sampling and training."""

import json

import diffusers
import pytest
import torch
from mmengine.runner import Runner
from scipy.optimize import linear_sum_assignment
from tiny import batch, build, losses_of, runner_config, tiny_config, write_coco

from mmdiffdet.config.file import read_config
from mmdiffdet.diffusion import BoxCodec, PerImageNoise, Prediction, sample
from mmdiffdet.diffusion.box_schedulers import (
    build_box_scheduler,
    same_process,
    scheduler_step,
    training_scheduler,
)
from mmdiffdet.diffusion.flow import pair_noise
from mmdiffdet.diffusion.timesteps import draw_timesteps
from mmdiffdet.distill import Teacher

FLOW = dict(type='FlowMatchEulerDiscreteScheduler')


def scheduler(**options):
    return build_box_scheduler({**FLOW, **options})


def flow_config(**train_cfg):
    config = tiny_config(sampler=dict(sampling_timesteps=3))
    config.sampler.scheduler = dict(FLOW)
    config.train_cfg.update(train_cfg)
    return config


def test_forward_process_is_a_straight_line():
    """(1 - sigma) x_0 + sigma e with sigma = (t + 1) / T, values by hand."""
    forward = training_scheduler(scheduler())
    x0 = torch.tensor([[[2.0, -1.0, 0.5, 0.0]]]).expand(3, 1, 4)
    noise = torch.tensor([[[0.0, 1.0, -0.5, 4.0]]]).expand(3, 1, 4)
    found = forward.add_noise(x0, noise, torch.tensor([999, 249, 499]))
    expected = [[0.0, 1.0, -0.5, 4.0], [1.5, -0.5, 0.25, 1.0], [1.0, 0.0, 0.0, 2.0]]
    assert torch.allclose(found[:, 0], torch.tensor(expected), atol=1e-6)


@pytest.mark.parametrize('steps', [1, 3, 4, 1000])
def test_timesteps_are_even_and_end_at_the_data(steps):
    s = scheduler()
    s.set_timesteps(steps)
    sigmas = (s.timesteps + 1).double() / 1000
    assert len(s.timesteps) == steps and s.timesteps[0] == 999
    expected = torch.arange(steps, 0, -1).double() / steps
    assert (sigmas - expected).abs().max() <= 0.5 / 1000 + 1e-9


def test_shift_spends_steps_near_the_noise():
    """sigma' = 3 sigma / (1 + 2 sigma): 1, 0.9, 0.75, 0.5 for four steps."""
    s = scheduler(shift=3.0)
    s.set_timesteps(4)
    assert (s.timesteps + 1).tolist() == [1000, 900, 750, 500]
    with pytest.raises(ValueError, match='coincide'):
        s.set_timesteps(900)
    with pytest.raises(ValueError, match='shift must be positive'):
        scheduler(shift=0.0)


def test_steps_are_eulers_of_the_velocity():
    """Against x + (sigma' - sigma) v with v = (x - x_0) / sigma, in float64."""
    s = scheduler()
    s.set_timesteps(4)
    x, x0 = torch.randn(2, 1, 5, 4, dtype=torch.float64)
    found = s.step(x0, s.timesteps[1], x, return_dict=False)[0]
    assert torch.allclose(found, x + (0.5 - 0.75) * (x - x0) / 0.75)
    last = s.step(x0, s.timesteps[3], x, return_dict=False)[0]
    assert torch.allclose(last, x0)


def test_exact_predictions_lead_straight_to_the_boxes():
    codec, sizes = BoxCodec(), torch.tensor([[48.0, 64.0]])
    target = torch.tensor([[[8.0, 8.0, 40.0, 32.0], [4.0, 2.0, 20.0, 44.0]]])
    s = scheduler()
    s.set_timesteps(5)
    seen = []

    def denoise(boxes, label_state, t):
        seen.append(boxes)
        return Prediction(target, torch.zeros(1, 2, 3))

    x = torch.full((1, 2, 4), 0.3)
    sample(denoise, s, x, PerImageNoise.from_seed(0, [0]), codec, sizes)
    noise = codec.decode(x, sizes)
    for i, boxes in enumerate(seen):  # boxes are affine in the signal
        assert torch.allclose(boxes, noise + (target - noise) * i / 5, atol=1e-3)


def test_stochastic_sampling_draws_anew():
    s = scheduler(stochastic_sampling=True)
    s.set_timesteps(2)
    x0 = torch.zeros(1, 3, 4)
    draws = [
        s.step(x0, s.timesteps[0], x0 + 9, torch.Generator().manual_seed(n), return_dict=False)[0]
        for n in (0, 0, 1)
    ]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert draws[0].abs().max() < 4  # nothing is left of the 9
    three = torch.full_like(x0, 3.0)
    found = s.step(three, s.timesteps[0], x0, variance_noise=x0 - 1, return_dict=False)[0]
    assert torch.allclose(found, torch.tensor(1.0))  # 0.5 of 3 and 0.5 of -1
    last = s.step(three, s.timesteps[1], x0, variance_noise=x0 - 1, return_dict=False)[0]
    assert torch.equal(last, three)


def test_noise_of_each_step_is_the_images_own():
    """What is drawn by the sampler is what Diffusers would draw."""
    s, x = scheduler(stochastic_sampling=True), torch.zeros(2, 3, 4)
    s.set_timesteps(2)
    noise, again = (PerImageNoise.from_seed(0, [4, 5]) for _ in range(2))
    found = scheduler_step(s, x, s.timesteps[0], x, noise, eta=1.0)
    expected = s.step(x, s.timesteps[0], x, again.generators, return_dict=False)[0]
    assert torch.equal(found, expected) and found.abs().sum() > 0
    s = scheduler()
    s.set_timesteps(2)
    assert not scheduler_step(s, x, s.timesteps[0], x, noise, eta=1.0).any()


def test_processes_that_are_one():
    ddim, euler = (
        build_box_scheduler(dict(type=f'{n}Scheduler')) for n in ('DDIM', 'EulerDiscrete')
    )
    assert same_process(ddim, euler) and same_process(scheduler(), scheduler(shift=3.0))
    assert not same_process(ddim, scheduler())
    assert not same_process(scheduler(), scheduler(num_train_timesteps=500))
    linear = build_box_scheduler(dict(type='DDIMScheduler', beta_schedule='linear'))
    assert not same_process(ddim, linear)


def test_a_process_that_is_not_known():
    with pytest.raises(ValueError, match='FlowMatchHeun.* no beta_schedule'):
        training_scheduler(diffusers.FlowMatchHeunDiscreteScheduler())


def test_pairing_is_the_cheapest_permutation():
    signal, noise = torch.randn(2, 3, 6, 4)
    paired = pair_noise(signal, noise)
    for before, after, target in zip(noise, paired, signal):
        assert sorted(before.tolist()) == sorted(after.tolist())
        cost = torch.cdist(target, before).square()
        rows, columns = linear_sum_assignment(cost.numpy())
        found = (target - after).square().sum()
        assert torch.allclose(found, cost[rows, columns].sum(), atol=1e-4)
        assert found < (target - before).square().sum()


@pytest.mark.parametrize(
    ('which', 'shift', 'mean'), [('all', 1, 0.5), ('logit_normal', 1, 0.5), ('shifted', 3, 0.676)]
)
def test_timesteps_of_training(which, shift, mean):
    """Means of 3u / (1 + 2u): 1.5 - 0.75 ln 3 = 0.676; logit-normal avoids the ends."""
    model = build(flow_config())
    model.sampler.scheduler = scheduler(shift=shift)
    t = draw_timesteps(which, model.sampler, 20000, torch.device('cpu'))
    assert t.min() >= 0 and t.max() <= 999
    assert abs((t + 0.5).div(1000).mean().item() - mean) < 0.01
    rare = ((t < 50) | (t >= 950)).float().mean()
    assert rare < 0.01 if which == 'logit_normal' else rare > 0.05


@pytest.mark.parametrize(
    'train_cfg',
    [
        dict(),
        dict(noise_pairing='optimal_transport'),
        dict(timesteps='logit_normal'),
        dict(timesteps='sampling'),
    ],
)
def test_a_flow_trains_and_predicts(train_cfg):
    model = build(flow_config(**train_cfg)).train()
    data = batch()
    total, _ = model.parse_losses(losses_of(model, data))
    total.backward()
    assert total > 0 and all(
        p.grad.isfinite().all() for p in model.parameters() if p.grad is not None
    )
    model.eval()
    with torch.no_grad():
        first, again = (model.test_step(data)[0].pred_instances for _ in range(2))
    assert len(first) and torch.equal(first.bboxes, again.bboxes)


def test_a_flow_is_not_used_as_a_diffusion(tmp_path):
    """Weights have the same names and shapes, so nothing else would tell."""
    root = write_coco(tmp_path / 'data')
    cfg = runner_config(root, tmp_path / 'flow')
    cfg.model.sampler.scheduler = dict(FLOW)
    Runner.from_cfg(cfg).train()
    checkpoint = str(tmp_path / 'flow/iter_2.pth')

    def again(**changes):
        other = runner_config(root, tmp_path / 'again')
        other.load_from = checkpoint
        other.update(changes)
        return Runner.from_cfg(other)

    message = 'trained with FlowMatch.*, the config has DDIM'
    with pytest.raises(ValueError, match=message):
        again().test()
    with pytest.raises(ValueError, match=message):
        Teacher.load(checkpoint, tiny_config())
    again().train()  # it may start from what a flow has learnt
    flow = tiny_config()
    flow.sampler.scheduler = dict(FLOW, shift=3.0)
    assert Teacher.load(checkpoint, flow).model.sampler.scheduler.shift == 3.0


def test_a_signal_scale_of_the_test_is_that_of_the_training(tmp_path):
    """Nor do weights tell what their noise meant in pixels."""
    root = write_coco(tmp_path / 'data')
    cfg = runner_config(root, tmp_path / 'work')
    Runner.from_cfg(cfg).train()
    for change in (dict(scale=1.0), dict(noise_sigma=(1, 1, 2, 2)), dict(noise_mean=(0, 0, 1, 0))):
        other = runner_config(root, tmp_path / 'again')
        other.load_from = str(tmp_path / 'work/iter_2.pth')
        other.model.box_codec = dict(type='BoxCodec', **change)
        message = f'box_codec.{next(iter(change))} of the config has .*it was trained with'
        with pytest.raises(ValueError, match=message):
            Runner.from_cfg(other).test()


def test_options_that_do_not_fit():
    with pytest.raises(ValueError, match='optimal_transport'):
        build(flow_config(noise_pairing='sinkhorn'))
    config = flow_config(timesteps='shifted')
    for scheduler_cfg in (dict(type='DDIMScheduler'), FLOW):  # the flow's shift is 1
        config.sampler.scheduler = dict(scheduler_cfg)
        with pytest.raises(ValueError, match='shift other than 1'):
            build(config)
    config.sampler.scheduler = dict(FLOW, shift=2.0)
    build(config)
    with pytest.raises(ValueError, match='does not take .*use_karras_sigmas'):
        scheduler(use_karras_sigmas=True)


def test_a_prior_is_a_change_of_units():
    """Noise e at mean m and deviation s is m + s e in the units of plain boxes."""
    plain = BoxCodec()
    codec = BoxCodec(noise_mean=(0.0, 0.5, -1.0, -1.5), noise_sigma=(1.0, 0.5, 0.25, 0.3))
    sizes = torch.tensor([[48.0, 64.0]])
    noise = torch.randn(1, 200, 4) * 0.5
    moved = torch.tensor(codec.noise_mean) + torch.tensor(codec.noise_sigma) * noise
    assert torch.allclose(codec.decode(noise, sizes), plain.decode(moved, sizes), atol=1e-3)
    boxes = torch.tensor([[[2.0, 3.0, 60.0, 40.0], [0.0, 0.0, 64.0, 48.0]]])
    signal = codec.encode(boxes, sizes)
    assert torch.allclose(codec.decode(signal, sizes), boxes, atol=1e-3)
    far = codec.decode(torch.full((1, 1, 4), 99.0), sizes)
    assert torch.allclose(far, plain.decode(torch.full((1, 1, 4), 99.0), sizes), atol=1e-3)


@pytest.mark.parametrize('sigma', [(1, 1, 1), (1, 1, 0, 1), (1, 1, float('nan'), 1)])
def test_bad_deviation(sigma):
    with pytest.raises(ValueError, match='noise_sigma'):
        BoxCodec(noise_sigma=sigma)


@pytest.mark.parametrize('mean', [(0, 0, 0), (0, 0, 0, 9), (0, 0, 0, float('nan')), 'from_file'])
def test_bad_prior(mean):
    with pytest.raises(ValueError, match='noise_mean'):
        BoxCodec(noise_mean=mean)


def test_prior_of_the_training_set(tmp_path, monkeypatch):
    """Mean and deviation of the boxes, computed anew from the annotation file."""
    root = write_coco(tmp_path / 'data')
    content = json.loads((root / 'train.json').read_text())
    for i, one in enumerate(content['annotations']):
        one['bbox'][2:] = [4 + i, 5 + 2 * i]
    for split in ('train', 'val'):
        (root / f'{split}.json').write_text(json.dumps(content))
    monkeypatch.setenv('OWN_ROOT', str(root))
    cfg = read_config('configs/own/own_coco_small.py', None, parts=['flow_prior'])
    codec = cfg.model.box_codec
    boxes = [a['bbox'] for a in json.loads((root / 'train.json').read_text())['annotations']]
    b = torch.tensor(boxes, dtype=torch.float64)
    signal = (
        torch.cat([b[:, :2] + b[:, 2:] / 2, b[:, 2:]], 1) / torch.tensor([64, 48] * 2)
    ) * 4 - 2
    assert torch.allclose(torch.tensor(codec.noise_mean).double(), signal.mean(0), atol=1e-5)
    assert torch.allclose(
        torch.tensor(codec.noise_sigma).double(), signal.std(0, unbiased=False), atol=1e-5
    )
    with pytest.raises(ValueError, match='leave out noise_sigma'):
        read_config('configs/own/own_coco_small.py', None, parts=['aniso', 'flow_prior'])
