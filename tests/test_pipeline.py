"""The pipeline: images to detections with Diffusers' habits."""

import json

import cv2
import diffusers
import numpy as np
import PIL.Image
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from tiny import build, runner_config, write_coco

from mmdiffdet.config.text import parse_config_text
from mmdiffdet.diffusion.noise import make_generator
from mmdiffdet.diffusion.sampling import SamplingVariant
from mmdiffdet.engine.precision import in_precision
from mmdiffdet.pipelines import DiffusionDetModel, DiffusionDetPipeline
from mmdiffdet.pipelines.inference_config import InferenceConfig, check_types
from mmdiffdet.registry import DATASETS, TASK_UTILS


@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    """A data set, its config, and a checkpoint as a training writes it."""
    folder = tmp_path_factory.mktemp('lab')
    cfg = runner_config(
        write_coco(folder / 'data'),
        folder,
        parts=['d3pm_quality'],
        sampler=dict(sampling_timesteps=3),
    )
    # larger than the images, so that boxes are scaled back
    cfg.test_dataloader.dataset.pipeline[1].update(scale=(96, 96), keep_ratio=True)
    model = build(cfg.model).eval()
    torch.save(
        dict(
            meta=dict(cfg=cfg.pretty_text, dataset_meta=dict(classes=('red', 'green', 'blue'))),
            state_dict=model.state_dict(),
        ),
        folder / 'iter_2.pth',
    )
    cfg.dump(folder / 'tiny.py')
    return folder


@pytest.fixture(scope='module')
def pipe(lab):
    pipe = DiffusionDetPipeline.from_single_file(lab / 'iter_2.pth')
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope='module')
def dataset(lab):
    return DATASETS.build(Config.fromfile(lab / 'tiny.py').test_dataloader.dataset)


def images(lab):
    return [lab / f'data/images/{i}.png' for i in range(3)]


def same(output, samples):
    assert len(output.boxes) == len(samples)
    for i, sample in enumerate(samples):
        found = sample.pred_instances
        assert len(found) > 0
        assert torch.equal(output.boxes[i], found.bboxes)
        assert torch.equal(output.scores[i], found.scores)
        assert torch.equal(output.labels[i], found.labels)


def equal(a, b):
    return all(
        torch.equal(x, y)
        for key in ('boxes', 'scores', 'labels')
        for x, y in zip(a[key], b[key], strict=True)
    )


def test_detections_are_those_of_a_test(lab, pipe, dataset):
    data = pseudo_collate([dataset[i] for i in range(3)])
    detector = pipe.model.detector
    with torch.no_grad(), in_precision(detector, 'fp32'):  # as tools/test.py
        as_config, other = detector.test_variants(
            data,
            [
                detector.default_variant,
                SamplingVariant(
                    TASK_UTILS.build(
                        dict(
                            type='DiffusionSampler',
                            scheduler=dict(type='UniPCMultistepScheduler'),
                            sampling_timesteps=4,
                            ensemble=dict(type='StepEnsemble'),
                        )
                    ),
                    eval_seed=7,
                    num_proposals=9,
                ),
            ],
        )
    same(pipe(images(lab), image_ids=[0, 1, 2]), as_config)
    scheduler = pipe.scheduler
    try:
        pipe.scheduler = diffusers.UniPCMultistepScheduler.from_config(scheduler.config)
        found = pipe(
            images(lab), num_inference_steps=4, num_proposals=9, eval_seed=7, image_ids=[0, 1, 2]
        )
        with pytest.raises(ValueError, match='multistep solver and cannot'):
            pipe(images(lab), renewal=True)
    finally:
        pipe.scheduler = scheduler
    same(found, other)


def test_kinds_of_images_and_generators(lab, pipe):
    path = images(lab)[0]
    from_path = pipe(path)
    assert equal(
        pipe([cv2.imread(str(path)), PIL.Image.open(path)]),
        {key: from_path[key] * 2 for key in ('boxes', 'scores', 'labels')},
    )
    seeded = pipe([path, path], generator=[make_generator(5, i) for i in ('a', 3)])
    assert equal(seeded, pipe([path, path], eval_seed=5, image_ids=['a', 3]))
    one = pipe([path, path], generator=torch.Generator().manual_seed(0))
    assert equal(one, pipe([path, path], generator=torch.Generator().manual_seed(0)))
    assert not torch.equal(one.boxes[0], one.boxes[1])


def test_trajectory_is_in_pixels_of_the_image(lab, pipe):
    output = pipe(images(lab)[0], num_inference_steps=4, output_trajectory=True, score_thr=0.0)
    (steps,) = output.trajectory
    assert [step.index for step in steps] == [0, 1, 2, 3]
    assert steps[0].t == 999 and steps[0].boxes.shape == (1, 12, 4)
    # detections are the steps' boxes, cut off at the image's border
    boxes = torch.cat([step.prediction.boxes[0] for step in steps])
    boxes = boxes.clamp(min=0).minimum(boxes.new_tensor([64, 48, 64, 48]))
    assert len(output.boxes[0]) and torch.cdist(output.boxes[0], boxes).amin(1).max() < 1e-3
    assert pipe(images(lab)[0]).trajectory is None


def test_save_and_load(lab, pipe, tmp_path):
    expected = pipe(images(lab), num_inference_steps=2)
    pipe.save_pretrained(tmp_path)
    files = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob('*') if p.is_file()}
    assert files == {
        'model_index.json',
        'model/config.json',
        'model/diffusion_pytorch_model.safetensors',
        'scheduler/scheduler_config.json',
        'label_scheduler/scheduler_config.json',
    }
    state = torch.random.get_rng_state()
    again = DiffusionDetPipeline.from_pretrained(tmp_path)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert again.classes == ['red', 'green', 'blue']
    assert equal(again(images(lab), num_inference_steps=2), expected)
    other = DiffusionDetPipeline.from_pretrained(
        tmp_path, scheduler=diffusers.EulerDiscreteScheduler.from_config(again.scheduler.config)
    )
    assert not equal(other(images(lab), num_inference_steps=2), expected)
    # the weights are a checkpoint, too
    weights = tmp_path / 'model/diffusion_pytorch_model.safetensors'
    third = DiffusionDetPipeline.from_single_file(weights, lab / 'tiny.py')
    assert equal(third(images(lab), num_inference_steps=2), expected)
    with pytest.raises(ValueError, match='carries no config'):
        DiffusionDetPipeline.from_single_file(weights)


def test_images_follow_the_model(lab):
    pipe = DiffusionDetPipeline.from_single_file(lab / 'iter_2.pth')
    assert pipe.device.type == pipe.model.detector.data_preprocessor.device.type == 'cpu'
    pipe.to('meta')
    assert pipe.device.type == pipe.model.detector.data_preprocessor.device.type == 'meta'


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_on_a_gpu(lab, pipe):
    expected = pipe(images(lab), eval_seed=1)
    moved = DiffusionDetPipeline.from_single_file(lab / 'iter_2.pth').to('cuda')
    found = moved(images(lab), eval_seed=1)
    for mine, theirs in zip(found.scores, expected.scores):
        assert mine.is_cuda
        torch.testing.assert_close(mine.cpu(), theirs, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    'file, change, error',
    [
        ('model_index.json', lambda d: d.update(scheduler=['os', 'system']), 'scheduler is .*os'),
        ('model_index.json', lambda d: d.update(model=['subprocess', 'Popen']), 'is not of a'),
        ('model_index.json', lambda d: d.update(_class_name='FluxPipeline'), 'is not of a'),
        ('model_index.json', lambda d: d.update(scheduler=3), 'cannot be read'),
        (
            'model/config.json',
            lambda d: d['model'].update(backbone=dict(type='subprocess.Popen', args='true')),
            "names type='subprocess.Popen'",
        ),
    ],
)
def test_a_strangers_folder_runs_nothing(pipe, tmp_path, file, change, error):
    pipe.save_pretrained(tmp_path)
    content = json.loads((tmp_path / file).read_text())
    change(content)
    (tmp_path / file).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=error):
        DiffusionDetPipeline.from_pretrained(tmp_path)


def test_a_strangers_checkpoint_runs_nothing(lab, tmp_path):
    content = torch.load(lab / 'iter_2.pth', weights_only=True)
    text = content['meta']['cfg']
    mark = tmp_path / 'executed'
    for bad, error in (
        (f'open({str(mark)!r}, "w")\n{text}', 'carries no config'),
        (text.replace("'mmdet.ResNet'", "'subprocess.Popen'"), 'names type='),
        (text.replace("'Resize'", "'os.system'"), 'names type='),
        (text.replace("'DiffusionDet'", "'mmdet.LAD'"), 'is not a DiffusionDet'),
        (text.replace("'FPN'", "'mmdet.LAD'"), "names type='mmdet.LAD'"),
        ('', 'carries no config'),
    ):
        assert bad != text
        content['meta']['cfg'] = bad
        torch.save(content, tmp_path / 'bad.pth')
        with pytest.raises(ValueError, match=f'bad.pth: .*{error}'):
            DiffusionDetPipeline.from_single_file(tmp_path / 'bad.pth')
    assert not mark.exists()


def test_types_of_every_part_are_known():
    check_types(dict(type='DiffusionDet', nms=dict(type='soft_nms'), a=[dict(type='mmdet.FPN')]))
    for name in ('os.system', 'builtins.eval', 'mmdet.models.LAD', 'antigravity', 3):
        with pytest.raises(ValueError, match='no registered part'):
            check_types([dict(type=name)])


def test_config_text_is_data():
    assert parse_config_text('a = dict(b=(1, -2.5), **{"c": None})') == dict(
        a=dict(b=[1, -2.5], c=None)
    )
    for text in ('', 'import os', 'a = f()', 'a.b = 1', 'a = [x for x in y]', '(' * 500):
        assert parse_config_text(text) is None


def test_classes_come_from_checkpoint_data_or_config(lab):
    cfg = Config.fromfile(lab / 'tiny.py')
    assert InferenceConfig.from_config(cfg).classes == ['red', 'green', 'blue']
    assert InferenceConfig.from_config(cfg, dict(classes=list('abc'))).classes == ['a', 'b', 'c']
    with pytest.raises(ValueError, match='3 classes, 2 names'):
        InferenceConfig.from_config(cfg, dict(classes=['a', 'b']))
    with pytest.raises(ValueError, match="'mmdet.DETR', which is not"):
        InferenceConfig.from_config(dict(model=dict(type='mmdet.DETR')))


def test_wrong_arguments(lab, pipe, tmp_path):
    path = images(lab)[0]
    (tmp_path / 'text.png').write_text('no image')
    for arguments, error in (
        (dict(num_inference_steps=0), 'from 1 to 1000'),
        (dict(num_proposals=0), 'num_proposals'),
        (dict(eta=-1), 'eta must be'),
        (dict(image_ids=[1, 2]), '2 image_ids for 1 images'),
        (dict(generator=[torch.Generator()] * 2), '2 generators for 1'),
        (dict(generator=torch.Generator(), eval_seed=1), 'takes the place'),
        (dict(precision='fp8'), "unknown 'fp8'"),
    ):
        with pytest.raises(ValueError, match=error):
            pipe(path, **arguments)
    with pytest.raises(ValueError, match='text.png cannot be decoded'):
        pipe(tmp_path / 'text.png')
    with pytest.raises(FileNotFoundError, match='none.png'):
        pipe(tmp_path / 'none.png')
    with pytest.raises(ValueError, match='uint8 in BGR'):
        pipe(np.zeros((3, 4, 4), np.float32))
    with pytest.raises(ValueError, match='a path, a PIL image or an array'):
        pipe([torch.zeros(3, 4, 4)])
    scheduler = pipe.scheduler
    try:
        pipe.scheduler = diffusers.PNDMScheduler()
        with pytest.raises(ValueError, match="unknown box scheduler 'PNDMScheduler'"):
            pipe(path)
        for other in (
            diffusers.FlowMatchEulerDiscreteScheduler(),
            # with a schedule of its own
            diffusers.UniPCMultistepScheduler(prediction_type='sample'),
        ):
            pipe.scheduler = other
            with pytest.raises(ValueError, match='another forward process or schedule'):
                pipe(path)
        pipe.scheduler = diffusers.EulerDiscreteScheduler()
        with pytest.raises(ValueError, match="prediction_type must be 'sample'"):
            pipe(path)
    finally:
        pipe.scheduler = scheduler
    with pytest.raises(FileNotFoundError, match='model_index.json does not exist'):
        DiffusionDetPipeline.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match='stay in float32'):
        DiffusionDetModel.from_pretrained(tmp_path, torch_dtype=torch.float16)
