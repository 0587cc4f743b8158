"""Sets of detections as teachers, and what both kinds of hooks refuse."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from test_distill import lively
from tiny import Operators, batch, build, losses_of, runner_config, tiny_config, write_coco

from mmdiffdet.distill import (
    ConsistencyModelHook,
    SamplerDistillHook,
    SetDistiller,
    SetDistillHook,
    Teacher,
)
from mmdiffdet.losses.objects import PaddedObjects
from mmdiffdet.models import DiffusionDet
from mmdiffdet.models.structures import HeadOutput
from mmdiffdet.registry import MODELS


def test_soft_objects_have_soft_targets():
    """Focal loss at target p, and boxes weighted with p, written out in float64."""
    config = tiny_config(['quality']).criterion
    criterion = MODELS.build(dict(config, num_classes=3)).double()
    torch.manual_seed(3)
    low = torch.rand(1, 1, 12, 2, dtype=torch.float64) * 40
    boxes = torch.cat([low, low + 20], -1)
    quality = torch.randn(1, 1, 12, dtype=torch.float64)
    logits = torch.randn(1, 1, 12, 3, dtype=torch.float64)
    output = HeadOutput(logits, boxes, dict(quality=quality), None)
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
    for name in ('loss_bbox', 'loss_giou', 'loss_quality'):
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


def test_no_mask_of_the_device_is_an_index(monkeypatch):
    """The host knows the sizes and asks once for the numbers of all images.

    Two processes that are seeded alike have noise of their own.
    """
    distiller = SetDistiller(Teacher(lively(1)), teacher_steps=1, score_thr=0.5)
    scores = torch.tensor([0.9, 0.5, 0.4])
    found = InstanceData(bboxes=torch.rand(3, 4), labels=torch.tensor([2, 1, 0]), scores=scores)
    seen = []
    monkeypatch.setattr(
        DiffusionDet, 'detect', lambda *args, **kwargs: seen.append(args[2:]) or [found, found[2:]]
    )
    metas = [dict(img_shape=(48, 64), img_id='a.jpg'), dict(img_shape=(40, 60), img_id='b.jpg')]
    step = SimpleNamespace(
        batch_inputs=torch.rand(2, 3, 64, 64),
        maps=[torch.rand(2, 8, 16, 16)],
        img_metas=metas,
        image_sizes=torch.empty(2, 2, device='meta'),  # reading it back raises
    )
    with Operators() as calls:
        first, second = distiller._objects(step)
    assert not calls.calls['masked_index']
    assert torch.equal(first.scores, scores[:2]) and first.labels.tolist() == [2, 1]
    assert len(second) == 0
    [(asked, variant)] = seen
    assert [m['img_shape'] for m in asked] == [(48, 64), (40, 60)]
    monkeypatch.setattr('mmdiffdet.distill.set_distiller.get_rank', lambda: 1)
    distiller._objects(step)
    ids = [m['img_id'] for metas, _ in seen for m in metas]
    assert ids == [0, 1, 2, 3]


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
