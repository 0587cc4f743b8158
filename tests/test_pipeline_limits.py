"""Parts of the pipelines by themselves: options of a call, results, images, the graph."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.structures import InstanceData
from tiny import batch, build, tiny_config

from mmdiffdet.diffusion import DiffusionSampler, PerImageNoise, build_box_scheduler
from mmdiffdet.diffusion.noise import make_generator
from mmdiffdet.models.postprocess import merge
from mmdiffdet.pipelines.call_options import noises_of_call, sampler_of_call
from mmdiffdet.pipelines.coco_results import CocoResults
from mmdiffdet.pipelines.exported import ExportedDetector, differences
from mmdiffdet.pipelines.graph import DetectionGraph, _greedy, check_exportable, draw_noise
from mmdiffdet.pipelines.graph_parts import GivenNoise, SymbolicRoIExtractor
from mmdiffdet.pipelines.images import ImageProcessor
from mmdiffdet.pipelines.inference_config import InferenceConfig
from mmdiffdet.pipelines.linear_steps import LinearSteps

# ---- a call's options ---------------------------------------------------------


def sampler(renewal=None):
    return DiffusionSampler(dict(type='DDIMScheduler'), renewal=renewal)


def test_what_a_call_changes_is_changed_in_a_copy():
    own = sampler(dict(type='BoxRenewal'))
    ddim = build_box_scheduler(dict(type='DDIMScheduler'))
    found = sampler_of_call(own, ddim, 1000, 0.0, False)
    assert (found.sampling_timesteps, found.eta, found.renewal) == (1000, 0.0, None)
    assert (own.sampling_timesteps, own.eta) == (1, 1.0) and own.renewal is not None
    plain = sampler_of_call(own, ddim)
    assert (plain.sampling_timesteps, plain.eta, plain.renewal) == (1, 1.0, own.renewal)
    assert sampler_of_call(own, ddim, renewal=True).renewal is own.renewal
    with pytest.raises(ValueError, match='renewal: the config of the model has none'):
        sampler_of_call(sampler(), ddim, renewal=True)
    assert sampler_of_call(sampler(), ddim, renewal=False).renewal is None
    for bad in (-0.1, float('nan')):
        with pytest.raises(ValueError, match='eta must be >= 0'):
            sampler_of_call(own, ddim, eta=bad)
    solver = build_box_scheduler(dict(type='UniPCMultistepScheduler'))
    assert sampler_of_call(own, solver).renewal is None
    assert sampler_of_call(sampler(), solver).renewal is None


def test_noise_of_a_call():
    device = torch.device('cpu')

    def draws(*args, **options):
        return [noise(3, 4) for noise in noises_of_call(*args, **options)]

    zero = PerImageNoise.from_seed(5, [0])(3, 4)
    assert all(torch.equal(found, zero) for found in draws(2, device, 5))
    for found, image_id in zip(draws(2, device, 5, ['a', 7]), ('a', 7)):
        assert torch.equal(found, PerImageNoise.from_seed(5, [image_id])(3, 4))
    own = draws(2, device, 5, None, [make_generator(5, 0), make_generator(6, 0)])
    assert torch.equal(own[0], zero) and not torch.equal(own[1], zero)
    # a generator draws a seed for each image
    seeds = torch.randint(2**62, (2,), generator=torch.Generator().manual_seed(1))
    for found, seed in zip(draws(2, device, 5, None, torch.Generator().manual_seed(1)), seeds):
        generator = torch.Generator().manual_seed(seed.item())
        assert torch.equal(found, PerImageNoise([generator], device)(3, 4))


# ---- results ------------------------------------------------------------------


def test_results_are_in_coco_format(tmp_path):
    results = CocoResults(['a', 'b'])
    boxes = torch.tensor([[1.0, 2, 11, 32], [0, 0, 4, 5]])
    results.add('x.png', (48, 64), boxes, torch.tensor([1, 0]), torch.tensor([0.5, 0.25]))
    results.add('y.png', (10, 20), boxes[:1], torch.tensor([0]), torch.tensor([1.0]), frame=7)
    results.write(tmp_path / 'r.json')
    found = json.loads((tmp_path / 'r.json').read_text())
    assert found['categories'] == [dict(id=1, name='a'), dict(id=2, name='b')]
    assert found['images'] == [
        dict(id=1, file_name='x.png', height=48, width=64),
        dict(id=2, file_name='y.png', height=10, width=20, frame=7),
    ]
    one, two, three = found['annotations']
    assert one == dict(
        id=1, image_id=1, category_id=2, bbox=[1, 2, 10, 30], area=300, iscrowd=0, score=0.5
    )
    assert (two['id'], two['image_id'], two['category_id']) == (2, 1, 1)
    assert two['bbox'] == [0, 0, 4, 5] and two['area'] == 20
    assert (three['id'], three['image_id']) == (3, 2)


# ---- images and configs -------------------------------------------------------

LOAD = dict(type='LoadImageFromFile')


@pytest.mark.parametrize(
    'image',
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.zeros((4, 4, 3), np.int64),
    ],
    ids=lambda image: f'{image.shape} {image.dtype}',
)
def test_arrays_that_are_no_image(image):
    with pytest.raises(ValueError, match='an array must be'):
        ImageProcessor([LOAD])(image)


def test_the_test_pipeline_begins_with_a_file():
    for steps, begins in (
        ([], 'nothing'),
        ([dict(type='LoadAnnotations')], 'nothing'),
        ([dict(type='mmdet.Resize', scale=(9, 9))], 'Resize'),
    ):
        with pytest.raises(ValueError, match=f'it begins with {begins}'):
            ImageProcessor(steps)
    # JSON has no tuples, of which this transform wants one
    flip = dict(type='mmdet.Resize', scale=[20, 40], keep_ratio=False)
    steps = [dict(type='mmcv.LoadImageFromFile'), dict(type='mmdet.LoadAnnotations'), flip]
    found = ImageProcessor(steps)(np.zeros((5, 5, 3), np.uint8))
    assert found['img'][0].shape == (40, 20, 3)


def test_names_of_classes_and_precision():
    cfg = Config(dict(model=tiny_config().to_dict(), test_cfg=dict(type='TestLoop')))
    data = dict(type='CocoDataset', pipeline=[LOAD])
    cfg.test_dataloader = dict(dataset=data)
    cfg.model.bbox_head.num_classes = 80
    found = InferenceConfig.from_config(cfg)
    assert (found.classes[0], found.classes[79]) == ('person', 'toothbrush')
    assert found.precision == 'fp32' and found.test_pipeline == [LOAD]
    cfg.test_cfg.precision = 'bf16'
    assert InferenceConfig.from_config(cfg).precision == 'bf16'
    cfg.model.bbox_head.num_classes = 1
    cfg.test_dataloader.dataset.metainfo = dict(classes='cat')  # one name, not three letters
    assert InferenceConfig.from_config(cfg).classes == ['cat']
    for change in (dict(pipeline=[]), None):
        cfg.test_dataloader = dict(dataset=dict(data, **change)) if change else {}
        with pytest.raises(ValueError, match='no test_dataloader.dataset.pipeline'):
            InferenceConfig.from_config(cfg)


# ---- the graph ----------------------------------------------------------------


def candidates(num=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(num, 2, generator=generator) * 60 - 10
    boxes = torch.cat([low, low + torch.rand(num, 2, generator=generator) * 40], 1)
    boxes[0] = torch.tensor([-9.0, -9, -1, -1])  # outside
    scores = torch.rand(num, generator=generator)
    return boxes, scores, torch.randint(2, (num,), generator=generator)


@pytest.mark.parametrize(
    'score_thr, most, nms',
    [
        (0.0, -1, None),
        (0.3, -1, dict(type='nms', iou_threshold=0.3)),
        (0.0, 5, dict(type='nms', iou_thr=0.3)),
        (0.4, 4, None),
        (0.0, 100, dict(type='nms')),
    ],
)
def test_the_graph_merges_as_testing_does(score_thr, most, nms):
    cfg = dict(nms=nms, max_per_img=most)
    graph = SimpleNamespace(detector=SimpleNamespace(test_cfg=cfg), score_thr=score_thr)
    image = candidates()
    boxes, labels, scores = DetectionGraph._merged(graph, *image, torch.tensor([50.0, 64.0]))
    named = nms and dict(type='nms', iou_threshold=nms.get('iou_threshold', 0.5))
    if nms and 'iou_thr' in nms:
        named['iou_threshold'] = nms['iou_thr']
    expected = merge(*image, dict(img_shape=(50, 64)), named, score_thr, most)
    assert len(scores) > 3 and boxes[:, 2].max() <= 64 and boxes[:, 3].max() <= 50
    torch.testing.assert_close(boxes, expected.bboxes)
    assert torch.equal(labels, expected.labels) and torch.equal(scores, expected.scores)


def test_overlaps_at_the_threshold_stay():
    """IoU 1/2; a box that is gone suppresses nobody; another class is left alone."""
    boxes = torch.tensor([[0.0, 0, 8, 8], [0, 0, 8, 4], [0, 0, 8, 3], [0, 0, 8, 8]])
    labels, alive = torch.tensor([0, 0, 0, 1]), torch.ones(4, dtype=torch.bool)
    assert _greedy(boxes, labels, alive, 0.5).tolist() == [True, True, False, True]
    assert _greedy(boxes, labels, alive, 0.49).tolist() == [True, False, True, True]
    dead = torch.tensor([False, True, True, True])
    assert _greedy(boxes, labels, dead, 0.49).tolist() == [False, True, False, True]


def test_noise_of_the_graph_is_that_of_testing():
    """The start, two steps, and then box renewal's own."""
    found = draw_noise((5, 3, 4), 2, 7, 'a.png')
    source = PerImageNoise.from_seed(7, ['a.png'])
    renewal = source.spawn('renewal')
    expected = [source(3, 4) for _ in range(3)] + [renewal(3, 4) for _ in range(2)]
    assert torch.equal(found, torch.cat(expected))
    given = GivenNoise(found, 3)
    other = given.generators.spawn('renewal')
    for noise, rows in ((given, (0, 1, 2)), (other, (3, 4)), (given.spawn('renewal'), (3,))):
        for row in rows:
            assert torch.equal(noise(3, 4), found[row : row + 1])


def test_the_graphs_table_is_that_of_testing():
    torch.manual_seed(0)
    feats = [torch.randn(1, 3, 64 // s, 96 // s) for s in (4, 8)]
    boxes = torch.tensor([[[2.0, 3, 40, 50], [-9, 5, 200, 180], [90, 60, 99, 70]]])
    extractor = SymbolicRoIExtractor(3, [4, 8], output_size=3, sampling_ratio=2)
    plain = super(SymbolicRoIExtractor, extractor)
    expected = plain.pool(plain.tabulate(feats), boxes)
    found = extractor.pool(extractor.tabulate(feats), boxes)
    torch.testing.assert_close(found, expected)
    for one, other in zip(
        vars(extractor.tabulate(feats)).values(), vars(plain.tabulate(feats)).values()
    ):
        for a, b in zip(one, other):
            assert torch.equal(a, b)


@pytest.mark.parametrize('channel, normal', [(True, True), (False, True), (True, False)])
def test_images_are_normalised_and_padded_as_in_testing(channel, normal):
    cfg = tiny_config()
    cfg.data_preprocessor.update(bgr_to_rgb=channel, pad_size_divisor=16, pad_value=3)
    if not normal:
        cfg.data_preprocessor.update(mean=None, std=None)
    model = build(cfg)
    data = batch([(33, 47)], [1])
    graph = SimpleNamespace(detector=model)
    image = data['inputs'][0][None].float()
    found = DetectionGraph._normalized(graph, image)
    expected = model.data_preprocessor(data, False)['inputs']
    assert found.shape == (1, 3, 48, 48)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize('eta, renewal, shape', [(1.0, True, 7), (0.0, True, 4), (1.0, False, 4)])
def test_rows_of_noise_that_a_graph_takes(eta, renewal, shape):
    model = build(tiny_config())
    own = model.sampler
    own.renewal = own.renewal if renewal else None
    changed = sampler_of_call(own, own.scheduler, 4, eta)
    graph = DetectionGraph(model, changed, 5)
    assert graph.noise_shape == (shape, 5, 4)
    assert graph.score_thr == 0 and DetectionGraph(model, changed, 5, 0.25).score_thr == 0.25


def test_what_can_be_exported():
    model = build(tiny_config(['d3pm']))
    for nms in (None, dict(iou_thr=0.5), dict(type='nms', iou_threshold=0.4)):
        model.test_cfg['nms'] = nms
        check_exportable(model, model.sampler)
    model.test_cfg['nms'] = dict(type='nms', iou_threshold=0.4, offset=1)
    with pytest.raises(ValueError, match='cannot export nms'):
        check_exportable(model, model.sampler)
    model.test_cfg['nms'] = None
    model = build(tiny_config(['d3pm'], label_scheduler=dict(use_distribution=False)))
    with pytest.raises(ValueError, match='cannot export labels that are drawn'):
        check_exportable(model, model.sampler)


def test_a_single_step_needs_no_weights():
    real = build_box_scheduler(dict(type='DDIMScheduler'))
    steps = LinearSteps(real, 1, 1.0)
    assert [int(t) for t in steps.timesteps.tolist()] == [999] and steps._weights == []
    two = LinearSteps(real, 2, 0.0)
    assert not two.is_noisy and [set(w) for w in two._weights] == [{('x', 0), ('x0', 0)}]
    assert LinearSteps(real, 2, 0.5).is_noisy
    noisy = LinearSteps(real, 2, 0.5)._weights[0]
    assert set(noisy) == {('x', 0), ('x0', 0), ('noise', 0)}
    assert real.num_inference_steps is None  # the scheduler itself is left alone


def test_detections_are_compared_with_the_nearest_of_their_class():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 12], [50, 50, 60, 60]])
    labels, scores = torch.tensor([0, 0, 1]), torch.tensor([0.9, 0.8, 0.7])
    # the first two have changed places
    found = InstanceData(
        bboxes=torch.tensor([[0.0, 0, 10, 12.5], [0, 0, 10, 10], [53, 50, 60, 60]]),
        labels=labels,
        scores=torch.tensor([0.8, 0.95, 0.7]),
    )
    pixels, score = differences(found, boxes, labels, scores)
    torch.testing.assert_close(pixels, torch.tensor([0.5, 0, 3]))
    torch.testing.assert_close(score, torch.tensor([0.0, 0.05, 0]))
    # of another class is what lies nearer
    two = InstanceData(bboxes=boxes[:2].flip(0), labels=labels[1:], scores=scores[:1].repeat(2))
    pixels, _ = differences(two, boxes[:2], labels[1:], two.scores)
    assert pixels.tolist() == [2, 2]
    # one place, two scores: the score tells them apart
    same = InstanceData(
        bboxes=boxes[:1].repeat(2, 1), labels=labels[:2], scores=torch.tensor([0.5, 0.9])
    )
    pixels, score = differences(same, same.bboxes, labels[:2], torch.tensor([0.9, 0.5]))
    assert not pixels.any() and not score.any()
    assert differences(found, boxes, torch.tensor([0, 1, 1]), scores) is None
    assert [len(x) for x in differences(found[:0], boxes[:0], labels[:0], scores[:0])] == [0, 0]


@pytest.mark.parametrize('shape, fits', [((33, 50), True), ((32, 50), False), ((33, 51), False)])
def test_sides_that_an_exported_file_takes(shape, fits):
    detector = ExportedDetector.__new__(ExportedDetector)
    detector.meta = dict(min_side=33, max_side=50, noise_shape=[1, 2, 4], step_draws=0)
    sample = SimpleNamespace(metainfo=dict(scale_factor=(2.0, 4.0)))
    detector.processor = lambda image: dict(
        inputs=[torch.zeros(3, *shape, dtype=torch.uint8)], data_samples=[sample]
    )
    seen = []

    def run(image, noise):
        seen.append((image.shape, noise))
        return torch.tensor([[8.0, 8, 16, 24]]), torch.tensor([1]), torch.tensor([0.5])

    detector._run = run
    if not fits:
        with pytest.raises(ValueError, match='sides must be from 33 to 50'):
            detector('x')
        return
    found = detector('x', 3, 9)
    assert found.bboxes.tolist() == [[4, 2, 8, 6]]  # of the image before it was resized
    assert seen[0][0] == (1, 3, *shape)
    assert torch.equal(seen[0][1], draw_noise((1, 2, 4), 0, 3, 9))
    sample.metainfo.clear()
    assert detector('x').bboxes.tolist() == [[8, 8, 16, 24]]
    assert torch.equal(seen[1][1], draw_noise((1, 2, 4), 0, 0, 0))
