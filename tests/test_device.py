"""What a GPU would have to do: waits of the host, and launches of kernels.

Tensors without data stand in for those of a GPU. The bounds are those of
docs/speed.md, so that nobody brings back what was taken out.
"""

from contextlib import nullcontext

import pytest
import torch
from mmdet.models import DetDataPreprocessor
from test_detector import MODULES, guided
from tiny import Operators, batch, build, stage, tiny_config

from mmdiffdet import nms
from mmdiffdet.device import on_device
from mmdiffdet.diffusion.noise import PerImageNoise
from mmdiffdet.models.postprocess import merge
from mmdiffdet.registry import TASK_UTILS

OPTIONS = {
    'plain': {},
    **MODULES,
    'guidance': guided(scale=2.0, mode='all', noise_scale=0.5),
    'geo_bias_knn': stage(attention_parts=[dict(type='GeometryBias', topk=3)]),
}
SCHEDULERS = (
    'DDIMScheduler',
    'EulerDiscreteScheduler',
    'DPMSolverMultistepScheduler',
    'FlowMatchEulerDiscreteScheduler',
    'DDPMScheduler',
    'LCMScheduler',
    'FlowMatchEulerDiscreteScheduler',
)


@pytest.fixture(autouse=True)
def without_autocast(monkeypatch):
    """Of the device without data PyTorch has none."""
    monkeypatch.setattr(torch, 'autocast', lambda *args, **kwargs: nullcontext())


def sample(model, sampler=None, images=2):
    """The reverse process on a device without data; gives the operators."""
    model.eval().to('meta')
    with torch.no_grad(), Operators() as found:
        table = model.bbox_head.tabulate(
            model.extract_feat(torch.empty(images, 3, 64, 96, device='meta'))
        )
    assert not found.waits
    with torch.no_grad(), Operators() as found:
        (sampler or model.sampler)(
            model.denoiser(table),
            model.box_codec,
            on_device([[64.0, 96.0]] * images, 'meta'),
            12,
            PerImageNoise.from_seed(0, range(images), 'meta'),
            label_scheduler=model.label_scheduler,
        )
    return found


@pytest.mark.parametrize('name', OPTIONS)
def test_head_and_reverse_process_never_wait(name):
    config = tiny_config(**OPTIONS[name])
    config.sampler.sampling_timesteps = 3
    assert not sample(build(config)).waits


def test_anisotropic_noise_does_not_wait():
    config = tiny_config(sampler=dict(sampling_timesteps=3))
    config.box_codec.noise_sigma = [1.0, 1.0, 2.0, 2.0]
    assert not sample(build(config)).waits


def test_copies_of_a_batch_do_not_wait():
    config = tiny_config()
    assert build(config).data_preprocessor._non_blocking
    config.data_preprocessor.non_blocking = False
    assert not build(config).data_preprocessor._non_blocking


def test_a_data_preprocessor_of_ones_own():
    """It need not take MMEngine's option for copies."""

    class Mine(DetDataPreprocessor):
        def __init__(self, mean, std):
            super().__init__(mean, std)

    config = tiny_config()
    config.data_preprocessor = dict(type=Mine, mean=[0.0] * 3, std=[1.0] * 3)
    assert build(config).data_preprocessor._non_blocking


@pytest.mark.parametrize(
    'name, options',
    [
        *((name, {}) for name in SCHEDULERS),
        ('FlowMatchEulerDiscreteScheduler', dict(stochastic_sampling=True)),
    ],
)
def test_waits_of_schedulers(name, options):
    """Of Diffusers' own draws there is one a step, ours are copied by us."""
    model = build(tiny_config())
    sampler = TASK_UTILS.build(
        dict(
            type='DiffusionSampler',
            scheduler=dict(type=name, **options),
            sampling_timesteps=4,
            renewal=None if name.startswith('DPM') else dict(type='BoxRenewal'),
        )
    )
    waits = sum(sample(model, sampler).waits.values())
    assert waits == (3 if name in ('DDPMScheduler', 'LCMScheduler') else 0)


def test_a_wait_is_seen():
    with Operators() as found:
        torch.ones(3).to('meta')
        torch.ones(3).to('meta', non_blocking=True)
    assert sum(found.waits.values()) == 1
    with pytest.raises(RuntimeError):
        torch.ones(3, device='meta').sum().item()
    with pytest.raises(NotImplementedError):
        torch.ones(3, device='meta')[torch.ones(3, dtype=torch.bool, device='meta')]


def test_launches_of_a_step_and_of_a_stage():
    """They do not depend on the number of images, but for their draws."""

    def launches(stages, steps, images=2):
        config = tiny_config(
            bbox_head=dict(num_stages=stages), sampler=dict(sampling_timesteps=steps)
        )
        return sample(build(config), images=images).launches

    one = launches(1, 1)
    assert launches(1, 1, images=4) - one == 2
    stage = launches(2, 1) - one
    assert stage <= 145
    assert one - stage <= 50  # what is around the stages, and the first draw
    assert launches(1, 2) - 2 * one <= 55  # solver and renewal


def iteration(model, images):
    """Losses and gradients of a second iteration; gives the operators.

    In the first one Diffusers copies its schedule to the device.
    """
    model.train().to('meta')
    data = batch([(64, 96)] * images, [0] + [3] * (images - 1))
    for sample in data['data_samples']:
        sample.gt_instances = sample.gt_instances.to('meta')
    for _ in range(2):
        with Operators() as found:
            losses = model.loss(torch.empty(images, 3, 64, 96, device='meta'), data['data_samples'])
            sum(value for key, value in losses.items() if 'loss' in key).backward()
    return found


@pytest.mark.parametrize(
    'name, timesteps',
    [
        ('plain', 'all'),
        ('plain', 'sampling'),
        ('d3pm', 'all'),
        ('geo_feat', 'all'),
        ('quality', 'all'),
    ],
)
def test_losses_and_gradients_never_wait(name, timesteps):
    config = tiny_config(**OPTIONS[name])
    config.train_cfg.timesteps = timesteps
    assert not iteration(build(config), 2).waits


def test_launches_of_an_iteration():
    """A stage forth and back with its losses, an image, and all the rest."""

    def launches(stages, images):
        return iteration(build(tiny_config(bbox_head=dict(num_stages=stages))), images).launches

    one = launches(1, 2)
    stage = launches(2, 2) - one
    image = (launches(1, 4) - one) / 2
    assert stage <= 320
    assert image <= 21
    assert one - stage <= 710  # with the backbone's


def candidates(num, classes, seed=0):
    """Boxes of one image of several steps: many lie on each other."""
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(num // 4 + 1, 2, generator=generator) * 600 - 50
    objects = torch.cat([low, low + torch.rand(num // 4 + 1, 2, generator=generator) * 300], 1)
    boxes = objects[torch.randint(len(objects), (num,), generator=generator)]
    boxes = boxes + torch.randn(num, 4, generator=generator) * 10
    scores = torch.rand(num, generator=generator).mul(500).round() / 500  # some are equal
    return boxes, scores, torch.randint(classes, (num,), generator=generator)


@pytest.mark.parametrize('score_thr', [0.0, 0.3])
def test_merging_waits_twice(monkeypatch, score_thr):
    """All pairs at once, as elsewhere than on CPUs."""
    monkeypatch.setattr(nms, '_by_blocks', nms._at_once)
    image = candidates(500, 80)
    with Operators() as found:
        merge(
            *image,
            dict(img_shape=(500, 600), scale_factor=(0.5, 0.5)),
            dict(type='nms', iou_threshold=0.5),
            score_thr=score_thr,
        )
    assert found.calls['equal'] + found.calls['masked_index'] == 2
    assert not found.calls['_local_scalar_dense'] + found.calls['nonzero']
    assert found.launches <= 145
