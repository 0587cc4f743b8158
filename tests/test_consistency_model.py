"""Consistency models: one path of noise, and the student's average."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from mmengine.runner import Runner
from test_distill import lively
from tiny import batch, build, losses_of, runner_config, tiny_config, write_coco

from mmdiffdet.diffusion.prediction import Prediction
from mmdiffdet.distill import (
    ConsistencyDistiller,
    ConsistencyModelDistiller,
    ConsistencyModelHook,
    SetDistiller,
    Teacher,
)
from mmdiffdet.distill.consistency_model import discretisation
from mmdiffdet.engine import load_checkpoint_file
from mmdiffdet.engine.provenance import check_origin
from mmdiffdet.ledger import sha256_of_file
from mmdiffdet.registry import HOOKS


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


def test_intervals_grow():
    """N(k) of the paper's appendix C at both ends, and by hand in the middle."""
    assert discretisation(0.0, 2, 150) == 2
    assert discretisation(1.0, 2, 150) == 151
    middle = math.ceil(math.sqrt(0.5 * (151**2 - 4) + 4) - 1) + 1
    assert discretisation(0.5, 2, 150) == middle == 107


def test_the_average_follows_as_in_the_paper():
    """N and mu of appendix C at both ends: mu = exp(2 ln(0.9) / N)."""
    hook = ConsistencyModelHook(last_intervals=150)
    student = lively(0)
    runner = SimpleNamespace(model=student, iter=0, max_iters=10, cfg=ConfigDict(model=None))
    hook.before_train(runner)
    before = {k: v.clone() for k, v in hook.average.module.state_dict().items()}
    hook.average.steps += 1  # in its first update it becomes the student
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1.0)
    for iteration, intervals in ((0, 2), (10, 151)):
        runner.iter = iteration
        hook.before_train_iter(runner, 0)
        assert student.distiller.intervals == intervals
        keep = math.exp(2 * math.log(0.9) / intervals)
        assert hook.average.momentum == pytest.approx(1 - keep)
    hook.before_train_iter(SimpleNamespace(model=student, iter=0, max_iters=10), 0)
    hook.after_train_iter(runner, 0)
    name = 'bbox_head.time_mlp.1.weight'
    found = hook.average.module.state_dict()[name]
    torch.testing.assert_close(found, before[name] + 0.1)
    hook.after_train(runner)
    assert student.distiller is None


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


def test_the_average_computes_as_the_student_does():
    student, average = lively(0).train(), lively(0)
    distiller = ConsistencyModelDistiller(Teacher(average), Teacher(lively(1)))
    student.distiller = distiller
    seen = []
    for who, model in (('average', average), ('teacher', distiller.path_teacher.model)):
        model.bbox_head.head_series[0].register_forward_pre_hook(
            lambda *_, w=who: seen.append(
                (w, torch.is_autocast_enabled('cpu'), torch.get_autocast_dtype('cpu'))
            )
        )
    with torch.autocast('cpu', torch.bfloat16):
        losses = losses_of(student, batch())
        assert torch.is_autocast_enabled('cpu')
    # the teacher's precision is its own
    assert [(w, on) for w, on, _ in seen] == [('teacher', False), ('average', True)]
    assert seen[1][2] is torch.bfloat16
    assert losses['loss_consistency_model_box'].isfinite()
    seen.clear()
    losses_of(student, batch())
    assert [on for _, on, _ in seen] == [False, False]


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


def test_a_consistency_model_trained_in_another_way(tmp_path):
    """Its hook makes the weights as a teacher does, and may have none."""
    hook = dict(type='ConsistencyModelHook', last_intervals=50)
    cfg = Config(dict(model=dict(type='X'), work_dir=str(tmp_path), custom_hooks=[hook]))
    torch.save(dict(meta=dict(seed=0, cfg=cfg.pretty_text)), tmp_path / 'iter_1.pth')
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_1.pth'))
    check_origin(cfg, 0)
    cfg.custom_hooks[0].last_intervals = 60
    with pytest.raises(RuntimeError, match='distillation is another'):
        check_origin(cfg, 0)
