"""Sets of detections as teachers, and consistency models."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from test_distill import lively
from tiny import batch, build, losses_of, runner_config, tiny_config, write_coco

from mmdiffdet.diffusion.prediction import Prediction
from mmdiffdet.distill import (
    ConsistencyDistiller,
    ConsistencyModelDistiller,
    ConsistencyModelHook,
    SamplerDistillHook,
    SetDistiller,
    SetDistillHook,
    Teacher,
)
from mmdiffdet.distill.consistency_model import discretisation
from mmdiffdet.engine import load_checkpoint_file
from mmdiffdet.ledger import sha256_of_file
from mmdiffdet.losses.objects import PaddedObjects
from mmdiffdet.models.structures import HeadOutput
from mmdiffdet.registry import HOOKS, MODELS


@HOOKS.register_module()
class StopAfter(Hook):
    """Stands for a kill after some iterations."""

    priority = 'VERY_LOW'

    def __init__(self, iterations):
        self.iterations = iterations

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.iterations:
            raise KeyboardInterrupt


class RecordAverage(Hook):
    """Keeps the average's state before the first iteration."""

    priority = 'VERY_LOW'

    def __init__(self, averages):
        self.averages = averages

    def before_train(self, runner):
        [hook] = [h for h in runner.hooks if isinstance(h, ConsistencyModelHook)]
        self.averages.append(copy.deepcopy(hook.average.state_dict()))


def test_soft_objects_have_soft_targets():
    """Focal loss at target p, and boxes weighted with p, written out in float64."""
    criterion = MODELS.build(dict(tiny_config().criterion, num_classes=3)).double()
    torch.manual_seed(3)
    low = torch.rand(1, 1, 12, 2, dtype=torch.float64) * 40
    boxes = torch.cat([low, low + 20], -1)
    output = HeadOutput(torch.randn(1, 1, 12, 3, dtype=torch.float64), boxes, {}, None)
    sizes = torch.tensor([[64.0, 64.0]], dtype=torch.float64)
    score = 0.7
    objects = InstanceData(
        bboxes=boxes[0, 0, :1] + 2,
        labels=torch.tensor([1]),
        scores=torch.tensor([score], dtype=torch.float64),
    )
    soft = criterion(output, [objects], sizes)
    del objects.scores
    hard = criterion(output, [objects], sizes)
    for name in ('loss_bbox', 'loss_giou'):
        assert torch.allclose(soft[name], score * hard[name])
    index = criterion.assigner.assign(
        InstanceData(scores=output.logits[0, 0], bboxes=boxes[0, 0]),
        objects,
        dict(img_shape=(64, 64)),
    ).gt_inds
    target = torch.zeros(12, 3, dtype=torch.float64)
    target[index > 0, 1] = score
    p = output.logits[0, 0].float().double().sigmoid()
    wrong = (1 - p) * target + p * (1 - target)
    entropy = -(target * p.log() + (1 - target) * (1 - p).log())
    focal = (0.25 * target + 0.75 * (1 - target)) * wrong**2 * entropy
    expected = criterion.loss_cls.loss_weight * focal.sum() / (index > 0).sum()
    assert torch.allclose(soft['loss_cls'].double(), expected, rtol=1e-5)


def test_the_teachers_set_is_what_it_detects(monkeypatch):
    student, other = lively(0).train(), lively(1)
    distiller = SetDistiller(Teacher(other), teacher_steps=3, score_thr=0.02, loss_weight=2.0)
    student.distiller = distiller
    seen = []
    forward = type(student.criterion).forward

    def spy(self, output, gt_instances, image_sizes):
        seen.append(gt_instances)
        return forward(self, output, gt_instances, image_sizes)

    monkeypatch.setattr(type(student.criterion), 'forward', spy)
    tests = []
    detect = type(other).detect

    def keep(self, table, metas, variant, **options):
        tests.append(variant)
        return detect(self, table, metas, variant, **options)

    monkeypatch.setattr(type(other), 'detect', keep)
    data = batch()
    losses = losses_of(student, data)
    truth, taught = seen
    assert 'scores' not in truth[0]
    # what a test of the teacher with this sampler and seed finds in these images
    with torch.no_grad():
        [expected] = other.test_variants(data, tests[:1])
    assert any(len(o) for o in taught)
    for objects, sample in zip(taught, expected):
        found = sample.pred_instances
        good = found.scores >= 0.02
        assert good.sum() == len(objects)
        assert torch.equal(objects.labels, found.labels[good])
        assert torch.allclose(objects.bboxes, found.bboxes[good], atol=1e-2)
        assert (objects.scores >= 0.02).all()
        assert objects.bboxes.requires_grad is False
        objects.bboxes.clone().requires_grad_()  # no tensor of inference mode
    assert losses['teacher_detections'] == sum(map(len, taught)) / 2
    assert losses['loss_set_distill_giou'] > 0 and losses['s0.loss_set_distill_cls'] > 0
    total, _ = student.parse_losses(losses)
    total.backward()
    # its sampler is not changed by its being a teacher
    assert other.sampler.sampling_timesteps == 1


def test_weight_of_the_set():
    found = []
    for weight in (1.0, 3.0):
        student = lively(0).train()
        student.distiller = SetDistiller(
            Teacher(lively(1)), teacher_steps=1, score_thr=0.0, loss_weight=weight
        )
        torch.manual_seed(0)
        found.append(losses_of(student, batch())['loss_set_distill_cls'])
    assert torch.allclose(3 * found[0], found[1])


def test_intervals_grow():
    """N(k) of the paper's appendix C at both ends, and by hand in the middle."""
    assert discretisation(0.0, 2, 150) == 2
    assert discretisation(1.0, 2, 150) == 151
    middle = math.ceil(math.sqrt(0.5 * (151**2 - 4) + 4) - 1) + 1
    assert discretisation(0.5, 2, 150) == middle == 107


def test_neighbours_lie_on_one_path(monkeypatch):
    """What the average is asked about: same objects, same noise, t - T / N."""
    student, average = lively(0).train(), lively(0)
    distiller = ConsistencyModelDistiller(Teacher(average), cls_weight=1.0)
    distiller.intervals = 4
    student.distiller = distiller
    asked, steps = [], []
    ask = distiller._ask

    def spy(who, step, boxes, t):
        asked.append((boxes, t))
        steps.append(step)
        return ask(who, step, boxes, t)

    monkeypatch.setattr(distiller, '_ask', spy)
    losses = losses_of(student, batch())
    [(boxes, t)], [step] = asked, steps
    assert torch.equal(t, (step.noisy.t - 250).clamp(min=0))
    abar = student.forward_process.alphas_cumprod[t].view(-1, 1, 1)
    signal = abar.sqrt() * step.noisy.signal + (1 - abar).sqrt() * step.noisy.noise
    expected = student.box_codec.decode(signal, step.image_sizes)
    assert torch.allclose(boxes, expected, atol=1e-3)
    assert losses['loss_consistency_model_box'] >= 0


def test_images_of_the_first_interval_have_no_neighbour(monkeypatch):
    student = lively(0).train()
    distiller = ConsistencyModelDistiller(Teacher(lively(1)), cls_weight=1.0)
    student.distiller = distiller
    monkeypatch.setattr(torch, 'randint', lambda n, size, **k: torch.zeros(size, dtype=torch.long))
    losses = losses_of(student, batch())
    assert losses['loss_consistency_model_box'] == losses['loss_consistency_model_cls'] == 0


def test_a_perfect_teacher_leads_along_the_path(monkeypatch):
    """If the teacher says the objects, its step ends where the noise does."""
    student = lively(0).train()
    distiller = ConsistencyModelDistiller(Teacher(lively(1)), Teacher(lively(2)))
    distiller.intervals = 5
    student.distiller = distiller
    asked = []

    def answer(who, step, boxes, t):
        asked.append(boxes)
        data = student.box_codec.decode(step.noisy.signal, step.image_sizes)
        return Prediction(data, torch.zeros(*boxes.shape[:2], 3))

    monkeypatch.setattr(distiller, '_ask', answer)
    steps = []
    call = type(distiller).__call__
    monkeypatch.setattr(
        type(distiller), '__call__', lambda self, s, step: steps.append(step) or call(self, s, step)
    )
    losses_of(student, batch())
    noisy = steps[0].noisy
    earlier = (noisy.t - 200).clamp(min=0)
    signal = student.forward_process.add_noise(
        # the codec clamps what lies outside of the image's signal
        student.box_codec.clamp(noisy.signal),
        noisy.noise,
        earlier,
    )
    expected = student.box_codec.decode(signal, steps[0].image_sizes)
    inside = (noisy.signal.abs() <= 2).all(-1)
    assert torch.allclose(asked[1][inside], expected[inside], atol=0.05)


@pytest.mark.parametrize('kind', ['ConsistencyModelHook', 'SetDistillHook'])
def test_a_resumed_training_ends_the_same(tmp_path, kind):
    root = write_coco(tmp_path / 'data')
    start = runner_config(root, tmp_path / 'start')
    Runner.from_cfg(start).train()
    teacher = dict(checkpoint=str(tmp_path / 'start/iter_2.pth'))
    hook = (
        dict(type=kind, teacher=teacher, teacher_steps=2)
        if kind == 'SetDistillHook'
        else dict(type=kind, last_intervals=9)
    )

    def runner_of(folder, **changes):
        cfg = runner_config(root, tmp_path / folder)
        cfg.load_from = teacher['checkpoint']
        cfg.custom_hooks = [hook]
        cfg.train_cfg.max_iters = 3
        cfg.default_hooks.checkpoint.interval = 1
        cfg.update(changes)
        return Runner.from_cfg(cfg)

    whole = runner_of('whole')
    whole.train()
    stopped = runner_of('stopped')
    # the average is the student itself before it was updated twice
    stopped.register_hook(dict(type='StopAfter', iterations=2))
    with pytest.raises(KeyboardInterrupt):
        stopped.train()
    again = runner_of('stopped', resume=True, load_from=None)
    again.train()
    found = again.model.state_dict()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, found[name]), name


def test_a_new_training_has_an_average_of_its_own(tmp_path):
    """It starts from a checkpoint's weights, not from what their training averaged."""
    root = write_coco(tmp_path / 'data')
    teacher = tmp_path / 'teacher.pth'
    torch.save(lively(1).state_dict(), teacher)

    def train(folder, **changes):
        cfg = runner_config(root, tmp_path / folder)
        cfg.custom_hooks = [
            dict(
                type='ConsistencyModelHook', last_intervals=9, teacher=dict(checkpoint=str(teacher))
            )
        ]
        cfg.update(changes)
        runner = Runner.from_cfg(cfg)
        averages = []
        runner.register_hook(RecordAverage(averages))
        runner.train()
        return averages[0], load_checkpoint_file(tmp_path / folder / 'iter_2.pth')

    _, first = train('first')
    assert first['meta']['teacher']['sha256'] == sha256_of_file(teacher)
    average, _ = train('second', load_from=str(tmp_path / 'first/iter_2.pth'))
    assert average['steps'] == 0
    name = 'bbox_head.time_mlp.1.weight'
    assert torch.equal(average[f'module.{name}'], first['state_dict'][name])
    assert not torch.equal(
        average[f'module.{name}'], first['consistency_average'][f'module.{name}']
    )


def test_a_teacher_of_sets_may_have_a_noise_of_its_own(tmp_path):
    config = tiny_config()
    config.box_codec.noise_mean = [0, 0, -1, -1]
    student = build(config).train()
    torch.save(lively(1).state_dict(), tmp_path / 'teacher.pth')
    Config(dict(model=tiny_config())).dump(tmp_path / 'teacher.py')
    teacher = dict(checkpoint=str(tmp_path / 'teacher.pth'), config=str(tmp_path / 'teacher.py'))
    runner = SimpleNamespace(
        model=student, cfg=ConfigDict(model=config), logger=MMLogger.get_instance('mmengine')
    )
    with pytest.raises(ValueError, match='box_codec.noise_mean is'):
        SamplerDistillHook(teacher).before_train(runner)
    SetDistillHook(teacher, teacher_steps=1, score_thr=0.0).before_train(runner)
    assert losses_of(student, batch())['loss_set_distill_cls'] > 0


def test_objects_that_are_sure_beside_soft_ones():
    """Labels of some images, detections of others: each counts as it is."""
    box = torch.tensor([[1.0, 2, 9, 8]])
    sure = InstanceData(bboxes=box.repeat(2, 1), labels=torch.tensor([0, 1]))
    soft = InstanceData(bboxes=box, labels=torch.tensor([2]), scores=torch.tensor([0.4]))
    assert PaddedObjects.pad([sure, soft]).scores.tolist() == [[1, 1], [pytest.approx(0.4), 0]]
    assert PaddedObjects.pad([sure]).scores is None


def test_two_who_want_to_teach(tmp_path):
    cfg = runner_config(write_coco(tmp_path / 'data'), tmp_path)
    teacher = tmp_path / 'teacher.pth'
    torch.save(lively(1).state_dict(), teacher)
    cfg.custom_hooks = [
        dict(type='SetDistillHook', teacher=dict(checkpoint=str(teacher)), teacher_steps=1),
        dict(type='ConsistencyModelHook', last_intervals=9),
    ]
    with pytest.raises(ValueError, match='SetDistiller and ConsistencyModelDistiller'):
        Runner.from_cfg(cfg).train()


def test_the_average_shares_a_frozen_backbone(monkeypatch):
    student = lively(0).train()
    student.freeze_backbone()
    average = Teacher(copy.deepcopy(student))
    average.compare(student)
    assert average.shares_backbone
    student.distiller = ConsistencyModelDistiller(average)
    monkeypatch.setattr(average.model, 'backbone_maps', None)
    assert losses_of(student, batch())['loss_consistency_model_box'] >= 0


@pytest.mark.parametrize('kind', ['same boxes', 'path'])
def test_a_teacher_of_another_process(kind):
    """Diffusion and flow matching mean different noise by one timestep."""
    config = tiny_config()
    config.sampler.scheduler = dict(type='FlowMatchEulerDiscreteScheduler')
    student, other = build(config).train(), Teacher(lively(1))
    if kind == 'path':
        student.distiller = ConsistencyModelDistiller(Teacher(build(config)), other)
    else:
        student.distiller = ConsistencyDistiller(other)
    with pytest.raises(ValueError, match='DDIMScheduler, the student is with FlowMatch'):
        losses_of(student, batch())
    # what it has found at the end means the same to both
    student.distiller = SetDistiller(other, teacher_steps=1)
    assert losses_of(student, batch())['loss_set_distill_cls'] > 0


@pytest.mark.parametrize(
    ('build_it', 'match'),
    [
        (lambda: ConsistencyModelHook(first_intervals=9, last_intervals=3), 'first_intervals'),
        (lambda: ConsistencyModelHook(momentum=0.0), 'momentum'),
        (lambda: ConsistencyModelHook(teacher=dict(config='x.py')), 'needs a checkpoint'),
        (lambda: SetDistillHook(teacher=dict(checkpoint='a', weights='b')), 'unknown'),
        (lambda: SetDistiller(Teacher(lively(0)), score_thr=1.0), 'score_thr'),
        (lambda: SetDistiller(Teacher(lively(0)), teacher_steps=0), 'sampling_timesteps'),
    ],
)
def test_bad_options(build_it, match):
    with pytest.raises((ValueError, FileNotFoundError), match=match):
        build_it()
