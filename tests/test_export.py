"""Detectors as ONNX and torch.export files."""

import cv2
import diffusers
import numpy as np
import pytest
import torch
from tiny import build, runner_config, write_coco

from mmdiffdet.diffusion.box_schedulers import build_box_scheduler, scheduler_step
from mmdiffdet.diffusion.noise import PerImageNoise
from mmdiffdet.pipelines import DiffusionDetPipeline
from mmdiffdet.pipelines.call_options import sampler_of_call
from mmdiffdet.pipelines.exported import ExportedDetector, differences, export
from mmdiffdet.pipelines.graph import DetectionGraph, check_exportable, draw_noise
from mmdiffdet.pipelines.linear_steps import LinearSteps


def pipeline(folder, part):
    cfg = runner_config(write_coco(folder / 'data'), folder, [part], bbox_head=dict(num_stages=1))
    model = build(cfg.model)
    with torch.no_grad():
        for stage in model.bbox_head.head_series:  # scores on both sides of renewal's threshold
            stage.class_logits.bias.fill_(0.0)
    meta = dict(cfg=cfg.pretty_text, dataset_meta=dict(classes=('red', 'green', 'blue')))
    torch.save(dict(meta=meta, state_dict=model.state_dict()), folder / 'iter_2.pth')
    pipe = DiffusionDetPipeline.from_single_file(folder / 'iter_2.pth')
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope='module')
def pipe(tmp_path_factory):
    return pipeline(tmp_path_factory.mktemp('lab'), 'd3pm_quality')


def pictures():
    """Ten images of ten sizes."""
    rng = np.random.default_rng(0)
    for _ in range(10):
        size = (int(rng.integers(60, 200)), int(rng.integers(60, 200)), 3)
        yield cv2.blur(rng.integers(0, 255, size, dtype=np.uint8), (5, 5))


@pytest.mark.parametrize(
    'scheduler, eta',
    [
        ('DDIMScheduler', 0.0),
        ('DDIMScheduler', 1.0),
        ('DPMSolverMultistepScheduler', 0.0),
        ('UniPCMultistepScheduler', 0.0),
        ('FlowMatchEulerDiscreteScheduler', 0.0),
    ],
)
def test_steps_are_sums(scheduler, eta):
    real = build_box_scheduler(dict(type=scheduler))
    real.set_timesteps(5)
    steps = LinearSteps(real, 5, eta)
    generator = torch.Generator().manual_seed(0)
    x0s = torch.randn(5, 2, 7, 4, generator=generator)
    x = y = torch.randn(2, 7, 4, generator=generator) * real.init_noise_sigma
    noises = [PerImageNoise.from_seed(0, [0, 1]) for _ in range(2)]
    assert steps.init_noise_sigma == pytest.approx(float(real.init_noise_sigma))
    for k, t in enumerate(real.timesteps[:-1]):
        assert steps.timesteps[k] == float(t)
        torch.testing.assert_close(
            steps.scale_model_input(y, steps.timesteps[k]), real.scale_model_input(x, t)
        )
        x = scheduler_step(real, x0s[k], t, x, noises[0], eta)
        (y,) = steps.step(x0s[k], steps.timesteps[k], y, generator=noises[1])
        torch.testing.assert_close(y, x, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize('scheduler', ['DDIMScheduler', 'UniPCMultistepScheduler'])
def test_the_graph_finds_the_same(pipe, scheduler):
    """Before it is exported; NMS, renewal, labels, quality and noise take part."""
    detector = pipe.model.detector
    own = pipe.scheduler
    try:
        pipe.scheduler = getattr(diffusers, scheduler).from_config(own.config)
        sampler = sampler_of_call(detector.sampler, pipe.scheduler, 3)
        graph = DetectionGraph(detector, sampler, 12)
        assert graph.noise_shape == ((5, 12, 4) if scheduler == 'DDIMScheduler' else (1, 12, 4))
        for i, image in enumerate(pictures()):
            data = pipe.model.processor(image)
            noise = draw_noise(graph.noise_shape, graph.step_draws, i)
            boxes, labels, scores = graph(data['inputs'][0][None].float(), noise)
            expected = pipe(image, num_inference_steps=3, eval_seed=i)
            scale = data['data_samples'][0].metainfo['scale_factor']
            boxes = boxes / boxes.new_tensor(scale).repeat(2)
            assert labels.tolist() == expected.labels[0].tolist()
            assert len(labels) < 3 * 12  # NMS took some
            # UniPC's sums have coefficients of both signs, which magnify float32's rounding
            close = 1e-3 if scheduler == 'DDIMScheduler' else 5e-3
            torch.testing.assert_close(boxes, expected.boxes[0], atol=close, rtol=0)
            torch.testing.assert_close(scores, expected.scores[0], atol=1e-5, rtol=0)
    finally:
        pipe.scheduler = own


@pytest.mark.parametrize('ending', ['pt2', 'onnx'])
def test_exported_files_find_the_same(pipe, tmp_path, ending):
    if ending == 'onnx':
        for package in ('onnx', 'onnxscript', 'onnxruntime'):
            pytest.importorskip(package)
    path = tmp_path / f'sub/model.{ending}'
    export(pipe, path, num_inference_steps=2, num_proposals=9)
    exported = ExportedDetector(path)
    assert exported.meta['classes'] == ['red', 'green', 'blue']
    assert exported.meta['noise_shape'] == [3, 9, 4]
    for i, image in enumerate(pictures()):
        found = exported(image, eval_seed=i)
        expected = pipe(image, num_inference_steps=2, num_proposals=9, eval_seed=i)
        lists = expected.boxes[0], expected.labels[0], expected.scores[0]
        pixels, score = differences(found, *lists)
        assert len(pixels) > 3 and pixels.max() < 1e-3 and score.max() < 1e-4
    assert differences(found[1:], *lists) is None
    found.scores[0] += 0.25
    assert differences(found, *lists)[1].max() == pytest.approx(0.25)
    with pytest.raises(ValueError, match='sides must be from 33'):
        exported(np.zeros((5, 300, 3), np.uint8))


def test_what_cannot_be_exported_is_said(pipe, tmp_path):
    detector, sampler = pipe.model.detector, pipe.model.detector.sampler
    with pytest.raises(ValueError, match='must end in .onnx or .pt2'):
        export(pipe, tmp_path / 'model.trt')
    own = pipe.scheduler
    try:
        for name in ('DDPMScheduler', 'LCMScheduler'):
            pipe.scheduler = build_box_scheduler(dict(type=name))
            with pytest.raises(ValueError, match=f'{name} draws noise within its steps'):
                export(pipe, tmp_path / 'model.pt2', num_inference_steps=3)
        pipe.scheduler = build_box_scheduler(dict(type='EulerDiscreteScheduler'))
        with pytest.raises(ValueError, match='DDIMScheduler with eta=0 is the same solver'):
            export(pipe, tmp_path / 'model.pt2', num_inference_steps=3)
        pipe.scheduler = build_box_scheduler(dict(type='DDPMScheduler', clip_sample=True))
        with pytest.raises(ValueError, match='clip_sample cannot be exported'):
            export(pipe, tmp_path / 'model.pt2', num_inference_steps=3)
    finally:
        pipe.scheduler = own
    sampler = sampler_of_call(sampler, own)
    sampler.guidance = object()
    with pytest.raises(ValueError, match='cannot export guidance'):
        check_exportable(detector, sampler)
    sampler.guidance = None
    nms = detector.test_cfg['nms']
    try:
        detector.test_cfg['nms'] = dict(type='soft_nms')
        with pytest.raises(ValueError, match='cannot export nms .*soft_nms'):
            check_exportable(detector, sampler)
    finally:
        detector.test_cfg['nms'] = nms
    assert not list(tmp_path.iterdir())


def test_files_of_something_else(tmp_path):
    for ending in ('onnx', 'pt2'):
        if ending == 'onnx':
            pytest.importorskip('onnxruntime')
        (tmp_path / f'bad.{ending}').write_text('no model')
        with pytest.raises(ValueError, match=f'bad.{ending} cannot be read'):
            ExportedDetector(tmp_path / f'bad.{ending}')
    with pytest.raises(FileNotFoundError, match='none.onnx does not exist'):
        ExportedDetector(tmp_path / 'none.onnx')
    with pytest.raises(ValueError, match='must end in'):
        ExportedDetector(__file__)
