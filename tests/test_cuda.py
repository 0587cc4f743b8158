"""What a GPU computes, against the CPU: ``python -m pytest -m cuda`` where one is.

Elsewhere the same tests run from CPU to CPU, so that they are known to work.
"""

import copy
import dataclasses
import os
import runpy
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from test_device import OPTIONS, SCHEDULERS
from tiny import ROOT, batch, build, losses_of, runner_config, tiny_config, write_coco

from mmdiffdet import benchmark as bench
from mmdiffdet.engine.part_optim import PartOptimWrapper
from mmdiffdet.engine.precision import in_precision
from mmdiffdet.engine.trainer import Trainer
from mmdiffdet.fast import accelerated
from mmdiffdet.fast.roi_extractor import FastRoIExtractor
from mmdiffdet.models import detector
from mmdiffdet.registry import TASK_UTILS

GPUS = torch.cuda.device_count()
if GPUS:  # before the first product, see torch.use_deterministic_algorithms
    os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')


def gpu(*values, count=1):
    """A parameter for machines with so many GPUs."""
    lack = pytest.mark.skipif(GPUS < count, reason=f'needs {count} GPU(s), PyTorch sees {GPUS}')
    return pytest.param(*values, marks=[pytest.mark.cuda, lack])


def cpu(*values):
    """Its twin where there is none."""
    twin = pytest.mark.skipif(GPUS > 0, reason='there is a GPU: MMEngine computes there')
    return pytest.param(*values, marks=twin)


on_devices = pytest.mark.parametrize('device', [cpu('cpu'), gpu('cuda')])
in_precisions = pytest.mark.parametrize(
    'device, precision', [cpu('cpu', 'bf16'), gpu('cuda', 'bf16'), gpu('cuda', 'fp16')]
)


@pytest.fixture(autouse=True)
def exact():
    """Products of float32 in float32, and as deterministic as before afterwards."""
    convolutions = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = convolutions
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return write_coco(tmp_path_factory.mktemp('cuda'))


def pair(device, config=None):
    """A model with trained-like scores on the CPU, and its copy on the device."""
    model = build(config or tiny_config())
    torch.manual_seed(5)
    with torch.no_grad():
        for stage in model.bbox_head.head_series:
            stage.class_logits.weight.normal_(0, 0.2)
            stage.class_logits.bias.fill_(-0.3)
    return model, copy.deepcopy(model).to(device)


def moved(noisy, device):
    values = {f.name: getattr(noisy, f.name) for f in dataclasses.fields(noisy)}
    return type(noisy)(**{k: v.to(device) if torch.is_tensor(v) else v for k, v in values.items()})


@pytest.fixture
def same_noise(monkeypatch):
    """Training's noise, of which each device has its own, is the CPU's."""
    kept, plain = [], detector.corrupt

    def corrupt(objects, image_sizes, *args):
        if not kept:
            kept.append(plain(objects, image_sizes, *args))
        return moved(kept[0], image_sizes.device)

    monkeypatch.setattr(detector, 'corrupt', corrupt)


@on_devices
@pytest.mark.parametrize('name', OPTIONS)
def test_losses_and_gradients(name, device, same_noise):
    found = []
    for model in pair(device, tiny_config(**OPTIONS[name])):
        with accelerated(model):  # as in training
            losses = losses_of(model.train(), batch(objects=(3, 0)))
        total, log = model.parse_losses(losses)
        total.backward()
        parameters = [(n, p) for n, p in model.named_parameters() if p.grad is not None]
        found.append((log, {name: p.grad.cpu() for name, p in parameters}))
    (log, gradients), (log_there, gradients_there) = found
    torch.testing.assert_close(log, log_there, rtol=1e-3, atol=1e-5)
    assert gradients.keys() == gradients_there.keys()
    largest = max(g.norm() for g in gradients.values())
    for key, expected in gradients.items():
        difference = (gradients_there[key] - expected).norm()
        assert difference <= 1e-2 * expected.norm() + 1e-5 * largest, key


def detections(model, data, config):
    """Boxes (pixels) and scores of all images, after several steps."""
    with torch.no_grad(), in_precision(model.eval(), config):
        samples = model.test_step(data)
    found = [sample.pred_instances.cpu() for sample in samples]
    return torch.cat([f.bboxes for f in found]), torch.cat([f.scores for f in found])


@on_devices
@pytest.mark.parametrize('name', OPTIONS)
def test_detections_of_parts(name, device):
    config = tiny_config(**OPTIONS[name])
    config.sampler.sampling_timesteps = 3
    models = pair(device, config)
    (boxes, scores), (boxes_there, scores_there) = (
        detections(model, batch(), 'fp32') for model in models
    )
    assert len(scores) > 2
    assert not FastRoIExtractor.failed  # which would go unnoticed
    torch.testing.assert_close(scores_there, scores, rtol=0, atol=1e-3)
    torch.testing.assert_close(boxes_there, boxes, rtol=0, atol=0.05)


@on_devices
@pytest.mark.parametrize('name', sorted({*SCHEDULERS, 'UniPCMultistepScheduler'}))
def test_detections_of_schedulers(name, device):
    sampler = dict(type='DiffusionSampler', scheduler=dict(type=name), sampling_timesteps=4)
    if not name.startswith(('DPM', 'Uni')):
        sampler['renewal'] = dict(type='BoxRenewal')
    found = []
    for model in pair(device):
        model.sampler = TASK_UTILS.build(copy.deepcopy(sampler))
        found.append(detections(model, batch(), 'fp32'))
    assert len(found[0][1]) > 2
    torch.testing.assert_close(found[1][1], found[0][1], rtol=0, atol=1e-3)
    torch.testing.assert_close(found[1][0], found[0][0], rtol=0, atol=0.05)


@on_devices
def test_images_that_go_through_together(device):
    _, model = pair(device)
    alone = detections(model, batch([(64, 96)] * 4, [1] * 4), 'fp32')
    model.test_cfg['images_per_pass'] = 4
    together = detections(model, batch([(64, 96)] * 4, [1] * 4), 'fp32')
    for a, b in zip(alone, together):
        torch.testing.assert_close(a, b, rtol=0, atol=0.05)


@in_precisions
def test_detections_of_precisions(device, precision):
    plain, model = pair(device)
    full = detections(plain, batch(), 'fp32')[1] if device == 'cpu' else None
    reduced = detections(model, batch(), precision)[1]
    full = detections(model, batch(), 'fp32')[1] if full is None else full
    count = min(len(full), len(reduced), 6)
    assert count > 2
    difference = (reduced[:count] - full[:count]).abs().max()
    assert 0 < difference < 0.05


@in_precisions
def test_training_in_precisions(device, precision, same_noise):
    """The losses of the first iterations, and that weights change."""
    kinds = dict(bf16='PartBf16OptimWrapper', fp16='PartAmpOptimWrapper')
    found = []
    for kind in ('PartOptimWrapper', kinds[precision]):
        _, model = pair(device)
        wrapper = build_optim_wrapper(
            model.train(),
            dict(
                type=kind,
                optimizer=dict(type='AdamW', lr=1e-4, fused=device == 'cuda'),
                clip_grad=dict(max_norm=1.0),
            ),
        )
        before = model.bbox_head.time_mlp[1].weight.clone()
        log = [model.train_step(batch(), wrapper)['loss'] for _ in range(8)]
        assert not torch.equal(before, model.bbox_head.time_mlp[1].weight)
        found.append(torch.stack(log))
    torch.testing.assert_close(found[1], found[0], rtol=0.05, atol=0)


@pytest.mark.cuda
@pytest.mark.skipif(not GPUS, reason='needs a GPU: what waits is told by CUDA')
@pytest.mark.parametrize('images', [2, 4])
def test_waits_of_an_iteration(images):
    config = tiny_config()
    config.data_preprocessor.type = 'DetDataPreprocessor'
    model = build(config).cuda().train()
    wrapper = PartOptimWrapper(torch.optim.AdamW(model.parameters()), clip_grad=dict(max_norm=1.0))
    sizes = [(64, 96)] * images
    for _ in range(2):
        model.train_step(batch(sizes, [3] * images), wrapper)
    torch.cuda.set_sync_debug_mode('warn')
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter('always')
        try:
            model.train_step(batch(sizes, [3] * images), wrapper)
        finally:
            torch.cuda.set_sync_debug_mode('default')
    lines = [f'{w.filename}:{w.lineno}' for w in told if 'synchroniz' in str(w.message)]
    assert len(lines) <= 2, lines


def weights(path):
    return torch.load(path, 'cpu', weights_only=False)['state_dict']


@on_devices
def test_resume_ends_at_the_same_weights(device, data, tmp_path):
    """To the last bit with ``randomness.deterministic=True``."""

    def train(name, iters, load_from=None):
        cfg = runner_config(data, tmp_path / name)
        cfg.train_cfg.max_iters = iters
        cfg.randomness.deterministic = True
        cfg.experiment_name = f'cuda_{name}_{iters}'
        cfg.load_from, cfg.resume = load_from, load_from is not None
        runner = Trainer.from_cfg(cfg)
        assert next(runner.model.parameters()).device.type == device
        runner.train()
        return tmp_path / name / f'iter_{iters}.pth'

    whole = weights(train('whole', 4))
    first = train('parts', 2)
    parts = weights(train('parts', 4, str(first)))
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    started = weights(first)
    assert not all(torch.equal(whole[key], started[key]) for key in whole)


@pytest.mark.parametrize('backend', [cpu('gloo'), gpu('nccl', count=2)])
def test_two_processes(backend, data, tmp_path):
    """They end at one model, also where a part is frozen; see the log for errors."""
    cfg = runner_config(data, tmp_path)
    cfg.optim_wrapper.paramwise_cfg = dict(backbone_lr_mult=0.0)
    cfg.dump(str(tmp_path / 'config.py'))
    done = subprocess.run(
        ['bash', str(ROOT / 'tools/dist_train.sh'), str(tmp_path / 'config.py'), '2', '--amp'],
        env=dict(
            os.environ,
            PYTHONPATH=str(ROOT),
            PATH=f'{Path(sys.executable).parent}:{os.environ["PATH"]}',
            OMP_NUM_THREADS='1',
        ),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert all(value.isfinite().all() for value in weights(tmp_path / 'iter_2.pth').values())


@on_devices
def test_benchmark(device, data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, 'matrix_peak', partial(bench.matrix_peak, size=256))
    runner_config(data, tmp_path).dump(str(tmp_path / 'tiny.py'))
    options = '--size 64 96 --batch-sizes 2 --steps 1 --eval-seeds 0 --repeats 1 --baseline'
    script = str(ROOT / 'tools/analysis_tools/benchmark.py')
    for more in ([], ['--training']):
        command = [script, str(tmp_path / 'tiny.py'), *options.split(), '--device', device, *more]
        monkeypatch.setattr(sys, 'argv', command)
        runpy.run_path(script, run_name='__main__')
    printed = capsys.readouterr().out
    assert '| image, 1 step' in printed and '| training iteration' in printed
    assert '| MiB' in printed and '| images/s' in printed
