"""Limits of distillation: at a timestep, of an option, of what teacher and student share."""

import math
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from mmengine.config import Config, ConfigDict
from test_distill import lively
from tiny import batch, losses_of, tiny_config

from mmdiffdet.diffusion.prediction import Prediction
from mmdiffdet.distill import (
    ConsistencyDistiller,
    ConsistencyModelDistiller,
    ConsistencyModelHook,
    SamplerDistiller,
    SetDistiller,
    Teacher,
    consistency_model,
    distillers,
)


def test_the_first_interval_ends_before_its_last_timestep(monkeypatch):
    """Of two intervals of 1000 timesteps: 499 has no neighbour, that of 500 is 0."""
    student = lively(0).train()
    distiller = student.distiller = ConsistencyModelDistiller(Teacher(lively(1)))
    data, times, pairs = batch(), [], []
    ask, losses = distiller._ask, distiller.losses
    monkeypatch.setattr(distiller, '_ask', lambda *a: times.append(a[-1]) or ask(*a))
    monkeypatch.setattr(distiller, 'losses', lambda *a: pairs.append(a) or losses(*a))
    monkeypatch.setattr(torch, 'randint', lambda n, size, **k: torch.tensor([499, 500])[: size[0]])
    losses_of(student, data)
    [t], [(own, target, _)] = times, pairs
    assert t.tolist() == [0, 0]
    for name in ('boxes', 'logits'):
        assert torch.equal(getattr(own, name)[0], getattr(target, name)[0])
        assert not torch.equal(getattr(own, name)[1], getattr(target, name)[1])


@pytest.mark.parametrize('kind', ['same boxes', 'path'])
def test_a_teacher_is_compared_once_and_answers_by_its_last_stage(kind, monkeypatch):
    student, teacher = lively(0).train(), Teacher(lively(1))
    if kind == 'path':
        student.distiller = ConsistencyModelDistiller(Teacher(lively(2)), teacher)
    else:
        student.distiller = ConsistencyDistiller(teacher)
    compared, stages = [], []
    for module in (consistency_model, distillers):
        monkeypatch.setattr(module, 'check_process', lambda *a: compared.append(a))
    teacher.model.bbox_head.register_forward_hook(
        lambda head, inputs, output: stages.append(len(output.boxes))
    )
    for _ in range(2):
        losses_of(student, batch())
    assert compared == [(student, teacher)] and stages == [1, 1]


def test_losses_of_no_weight_are_not_there():
    distiller = ConsistencyDistiller(Teacher(lively(1)), box_weight=0.0, cls_weight=0.5)
    logits = torch.tensor([[[0.0], [math.log(3)]]])  # probabilities 1 / 2 and 3 / 4
    mine = Prediction(torch.rand(1, 2, 4), logits)
    other = Prediction(torch.rand(1, 2, 4), torch.zeros(1, 2, 1))
    found = distiller.losses(mine, other, torch.tensor([[64.0, 64.0]]))
    assert list(found) == ['loss_consistency_cls']
    assert found['loss_consistency_cls'].item() == pytest.approx(0.5 * (0.25**2 / 2))


@pytest.mark.parametrize(
    'build_it, said',
    [
        (lambda t: SamplerDistiller(t, box_weight=0.0, cls_weight=0.1, topk=0, eta=0.0), None),
        (lambda t: SamplerDistiller(t, cls_weight=-0.1), 'cls_weight'),
        (lambda t: SamplerDistiller(t, temperature=0.1), None),
        (lambda t: SamplerDistiller(t, teacher_steps=1000, student_steps=1000), None),
        (lambda t: SetDistiller(t, score_thr=0.0, loss_weight=0.0), None),
        (lambda t: SetDistiller(t, loss_weight=-0.1), 'loss_weight must be >= 0'),
        (lambda t: SetDistiller(t, loss_weight=float('nan')), 'loss_weight must be >= 0'),
        (lambda t: SetDistiller(t, score_thr=-0.1), 'score_thr'),
        (lambda t: ConsistencyModelHook(first_intervals=1, last_intervals=1), None),
        (lambda t: ConsistencyModelHook(first_intervals=0), 'first_intervals'),
        (lambda t: ConsistencyModelHook(momentum=1.0), 'momentum must be in'),
    ],
)
def test_options_at_their_limits(build_it, said):
    teacher = Teacher(lively(1))
    if said is None:
        build_it(teacher)
    else:
        with pytest.raises(ValueError, match=said):
            build_it(teacher)


def runner_of(student):
    return SimpleNamespace(model=student, cfg=ConfigDict(model=None), _resume=True, logger=Mock())


def test_neighbours_are_timesteps_apart():
    """151 intervals of 150 and so on: at most one a timestep."""
    with pytest.raises(ValueError, match='below the 1000 timesteps'):
        ConsistencyModelHook(last_intervals=1000).before_train(runner_of(lively(0)))
    ConsistencyModelHook(last_intervals=999).before_train(runner_of(lively(0)))


def test_statistics_are_averaged_as_weights_are():
    student = lively(0)
    hook = ConsistencyModelHook(last_intervals=9)
    hook.before_train(runner_of(student))
    hook.average.steps += 1  # in its first update it becomes the student
    hook.average.momentum = 0.1
    before = hook.average.module.backbone.bn1.running_mean.clone()
    student.backbone.bn1.running_mean += 1.0
    hook.after_train_iter(runner_of(student), 0)
    torch.testing.assert_close(hook.average.module.backbone.bn1.running_mean, before + 0.1)


def test_a_training_that_had_no_average_is_told():
    runner = runner_of(None)
    hook = ConsistencyModelHook()
    hook.after_load_checkpoint(runner, dict(consistency_average={}))
    runner.logger.warning.assert_not_called()
    hook.after_load_checkpoint(runner, {})
    assert 'has no average' in runner.logger.warning.call_args.args[0]


def test_soft_objects_lie_in_the_batch_not_in_the_file():
    taught = []
    for factor in (1.0, 0.5):
        student = lively(0).train()
        distiller = student.distiller = SetDistiller(
            Teacher(lively(1)), teacher_steps=1, score_thr=0.0
        )
        plain = distiller._objects
        distiller._objects = lambda step, plain=plain: taught.append(plain(step)) or taught[-1]
        data = batch()
        for sample in data['data_samples']:
            sample.set_metainfo(dict(scale_factor=(factor, factor)))
        torch.manual_seed(0)
        losses_of(student, data)
    for one, other in zip(*taught):
        assert len(one) > 0 and torch.equal(one.bboxes, other.bboxes)


def test_a_backbone_is_shared_if_nothing_of_it_can_change():
    """Neither weights by gradients nor statistics in training mode."""
    student, teacher = lively(0).eval(), Teacher(lively(0))
    teacher.compare(student)
    assert not teacher.shares_backbone  # its weights have gradients
    student.backbone.requires_grad_(False)
    teacher.compare(student)
    assert teacher.shares_backbone
    student.backbone.training = True
    teacher.compare(student)
    assert not teacher.shares_backbone


def test_weights_of_a_teacher_on_a_cpu_stay_as_they_are():
    teacher = Teacher(lively(0), 'bf16')
    teacher.hold_weights()
    assert {p.dtype for p in teacher.model.parameters()} == {torch.float32}


def test_a_teacher_that_would_see_other_images(tmp_path):
    cfg = tiny_config()
    torch.save(lively(1).state_dict(), tmp_path / 'teacher.pth')
    Config(dict(model=cfg)).dump(tmp_path / 'teacher.py')
    files = str(tmp_path / 'teacher.pth'), cfg, str(tmp_path / 'teacher.py')
    assert Teacher.load(*files).precision == 'fp32'
    cfg.data_preprocessor.mean = [1.0, 2.0, 3.0]
    with pytest.raises(ValueError, match=r'data_preprocessor.mean .* has \[1.0, 2.0, 3.0\]'):
        Teacher.load(*files)
