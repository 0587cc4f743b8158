"""Hooks, loops and options of trainings and tests, each at its limits."""

import os
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData
from test_training import EVERYTHING, optimizer_of
from tiny import build, tiny_config
from torch import nn

from mmdiffdet.engine import part_optim, precision, processes, recipe
from mmdiffdet.engine.check_detections import FiniteWatch, check_detections
from mmdiffdet.engine.compile_hook import CompileHook, use_compile
from mmdiffdet.engine.epochs import fit_sampler, use_epochs
from mmdiffdet.engine.finetune import use_schedule
from mmdiffdet.engine.part_hooks import GeometryWarmupHook
from mmdiffdet.engine.part_optim import PartAmpOptimWrapper, _clip_shards
from mmdiffdet.engine.stopwatch import device_name
from mmdiffdet.engine.trainer import use_amp

# ---- what a detector gives out ------------------------------------------------

NAN, INF = float('nan'), float('inf')


def sample(**found):
    one = DetDataSample(metainfo=dict(img_id=7))
    if found:
        one.pred_instances = InstanceData(**found)
    return one


def test_detections_not_finite_are_counted():
    """A box once, however many of its sides are wrong."""
    check_detections([sample(), sample(scores=[NAN])])  # no tensors to look at
    boxes = torch.zeros(3, 4)
    boxes[1] = NAN
    with pytest.raises(FloatingPointError, match='bboxes of 1 of 3 detections of image 7 are'):
        check_detections([sample(bboxes=boxes)])
    boxes[0, 2] = INF
    with pytest.raises(FloatingPointError, match='bboxes of 2 of 3'):
        check_detections([sample(bboxes=boxes)])


@pytest.mark.parametrize('wrap', [lambda x: x, lambda x: [0, (x,)], lambda x: dict(a=1, b=[x])])
def test_outputs_are_looked_at_wherever_they_are(wrap):
    class Head(nn.Module):
        def forward(self, x):
            return wrap(x)

    model = nn.Module()
    model.bbox_head = Head()
    watch = FiniteWatch(model)
    with watch():
        watch.check([sample()])  # nothing was seen
        model.bbox_head(torch.ones(2))
        model.bbox_head(torch.tensor([1, 2]))
        watch.check([sample()])
        model.bbox_head(torch.tensor([1.0, INF]))
        model.bbox_head(torch.ones(2))
        with pytest.raises(FloatingPointError, match='not finite for images 7, 7: '):
            watch.check([sample(), sample()])
        watch.check([sample()])  # it was told
    model.bbox_head(torch.tensor([INF]))
    watch.check([sample()])


# ---- optimiser, precision, processes ------------------------------------------


@pytest.mark.parametrize(
    'max_norm, norm_type, others, norm, scale',
    [(10.0, 2.0, 0.0, 5.0, 1.0), (1.0, 2.0, 0.0, 5.0, 0.2), (6.5, 2.0, 144.0, 13.0, 0.5)]
    + [(3.5, 1.0, 0.0, 7.0, 0.5)],
)
def test_gradients_of_which_others_have_parts(
    max_norm, norm_type, others, norm, scale, monkeypatch
):
    """The gradient (3, 4), with the sum of powers that other processes add."""
    monkeypatch.setattr('torch.distributed.all_reduce', lambda t, group: t.add_(others))
    parameters = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    for parameter, value in zip(parameters, (3.0, -4.0)):
        parameter.grad = torch.tensor([value])
    options = {} if norm_type == 2 else dict(norm_type=norm_type)
    found = _clip_shards(None, parameters, max_norm, **options)
    assert found.item() == pytest.approx(norm)
    grads = torch.cat([p.grad for p in parameters]).tolist()
    assert grads == pytest.approx([3 * scale, -4 * scale], rel=1e-5)
    assert _clip_shards(None, [], 1.0).item() == pytest.approx(others ** (1 / 2))


def test_a_wrapper_that_waits_for_all_gradients():
    """It waits for ever only if there are some that do not come."""
    model = build(tiny_config(**EVERYTHING))
    model.find_unused_parameters = False
    optimizer_of(model, geometry_lr_mult=2.0)
    with pytest.raises(ValueError, match='set find_unused_parameters=True'):
        optimizer_of(model, geometry_lr_mult=0.0)


def test_a_loss_scale_that_no_gradient_needs(monkeypatch):
    """40 halvings of the first one, 2 ** 16; looked at every 100 steps."""
    monkeypatch.setattr(part_optim.AmpOptimWrapper, 'step', lambda self: None)
    wrapper, scale = PartAmpOptimWrapper.__new__(PartAmpOptimWrapper), 2.0 ** (16 - 39)
    wrapper._scale_update_param = None
    wrapper.loss_scaler = SimpleNamespace(is_enabled=lambda: True, get_scale=lambda: scale)
    for _ in range(100):
        wrapper.step()
    scale /= 2
    for _ in range(99):
        wrapper.step()
    with pytest.raises(FloatingPointError, match='however small the loss scale'):
        wrapper.step()
    wrapper._scale_update_param = 8.0  # a scale that is fixed
    for _ in range(100):
        wrapper.step()


@pytest.mark.parametrize('there', [True, False, None])
def test_instructions_for_bfloat16(there, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    name = '_is_avx512_bf16_supported'
    if there is None:  # an older PyTorch cannot say
        monkeypatch.delattr(torch.cpu, name, raising=False)
    else:
        monkeypatch.setattr(torch.cpu, name, lambda: there, raising=False)
    assert precision.has_bf16() is bool(there)


def test_precision_of_autocast():
    assert precision.autocast_precision('cpu') == 'fp32'
    for dtype, name in ((torch.bfloat16, 'bf16'), (torch.float16, 'fp16')):
        with torch.autocast('cpu', dtype):
            assert precision.autocast_precision('cpu') == name


@pytest.mark.parametrize(
    'gpu, kind, dtype, after, teacher',
    [
        (True, 'PartAmpOptimWrapper', 'bfloat16', 'PartAmpOptimWrapper', 'bf16'),
        (True, 'PartAmpOptimWrapper', None, 'PartAmpOptimWrapper', 'fp16'),
        (True, 'PartBf16OptimWrapper', None, 'PartBf16OptimWrapper', None),
        (False, 'PartAmpOptimWrapper', None, 'PartBf16OptimWrapper', 'bf16'),
    ],
)
@pytest.mark.parametrize('on', [True, False])
def test_a_config_that_has_mixed_precision_on(gpu, kind, dtype, after, teacher, on, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpu)
    hooks = [dict(type='X'), dict(type='Y', teacher=dict(checkpoint='a'))]
    cfg = Config(dict(optim_wrapper=dict(type=kind, dtype=dtype), custom_hooks=hooks))
    use_amp(cfg, on)
    assert cfg.optim_wrapper.type == after
    assert cfg.custom_hooks[1].teacher.get('precision') == teacher


@pytest.mark.parametrize(
    'cores, world, before, threads', [(8, 2, 16, 4), (8, 16, 16, 1), (8, 2, 3, 3), (None, 1, 9, 1)]
)
def test_processes_share_the_cores(cores, world, before, threads, monkeypatch):
    told = []
    monkeypatch.setattr(os, 'cpu_count', lambda: cores)
    monkeypatch.setattr(processes.dist, 'init_process_group', told.append)
    monkeypatch.setattr(processes.dist, 'get_world_size', lambda: world)
    monkeypatch.setattr(torch, 'get_num_threads', lambda: before)
    monkeypatch.setattr(torch, 'set_num_threads', told.append)
    cfg = Config(dict(launcher='pytorch', env_cfg=dict(dist_cfg=dict(backend='nccl'))))
    processes.use_cpu_processes(cfg)
    assert told == ['gloo', threads] and cfg.env_cfg.dist_cfg.backend == 'gloo'
    plain = dict(device_ids=None, broadcast_buffers=False, find_unused_parameters=False)
    assert cfg.model_wrapper_cfg == plain
    cfg.find_unused_parameters, cfg.model_wrapper_cfg = True, dict(broadcast_buffers=True)
    processes.use_cpu_processes(cfg)
    assert cfg.model_wrapper_cfg == {k: v is not None or None for k, v in plain.items()}
    cfg.launcher = 'slurm'
    with pytest.raises(ValueError, match='--launcher slurm needs GPUs'):
        processes.use_cpu_processes(cfg)


def test_the_processor_is_named_as_the_system_does():
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.is_file() else []
    names = {line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')}
    found = device_name(torch.device('cpu')).rsplit(', ', 1)
    assert found[1] == f'{torch.get_num_threads()} threads'
    assert not names or found[0] in names


# ---- compiled code ------------------------------------------------------------


def test_a_config_that_compiles():
    other = dict(type='OtherHook')
    for value, hook in ((True, {}), (dict(mode='x'), dict(mode='x'))):
        cfg = Config(dict(compile=value, custom_hooks=[other]))
        use_compile(cfg)
        assert cfg.custom_hooks == [other, dict(type='CompileHook', **hook)]
        assert cfg.compile is False
    cfg = Config(dict(compile=True))
    use_compile(cfg)
    assert cfg.custom_hooks == [dict(type='CompileHook')]


def test_what_a_compile_hook_says(monkeypatch):
    """Modules of the first level to choose from; two lines of what failed."""
    model = nn.Sequential(nn.Linear(1, 1), nn.Sequential(nn.Linear(1, 1)))
    with pytest.raises(ValueError, match=r"no module '2'; choose from \['0', '1'\] in modules"):
        CompileHook(modules=['2']).before_run(SimpleNamespace(model=model))
    logger = Mock()
    name = 'mmdiffdet.engine.compile_hook.MMLogger.get_current_instance'
    monkeypatch.setattr(name, lambda: logger)
    for text, end in (('a\n\nb\nc', 'RuntimeError a b'), ('', 'RuntimeError RuntimeError')):
        CompileHook()._fall_back('backbone', RuntimeError(text))
        assert logger.warning.call_args.args[0].endswith(f'runs without it: {end}')


# ---- schedules ----------------------------------------------------------------


def test_schedules_end_with_the_epochs():
    cfg = Config(
        dict(
            train_cfg=dict(max_iters=100),
            param_scheduler=[
                dict(type='MultiStepLR', end=100, milestones=[2, 10, 50, 90, 99]),
                dict(type='StepLR', step_size=30),
                dict(type='StepLR', step_size=1),
                dict(type='PolyLR', end=50),
                dict(type='X', total_iters=100, max_iters=100),
            ],
        )
    )
    use_epochs(cfg, 10)
    first, second, third, fourth, fifth = cfg.param_scheduler
    assert (first.milestones, first.end, first.begin) == ([1, 5, 9], 10, 0)  # 0 and 10 go out
    assert (second.step_size, third.step_size) == (3, 1) and second.by_epoch is True
    assert fourth == dict(type='PolyLR', end=50)  # warming up
    assert (fifth.total_iters, fifth.max_iters) == (10, 10)
    assert cfg.train_cfg == dict(type='EpochBasedTrainLoop', max_epochs=10, val_interval=1)
    assert cfg.default_hooks.checkpoint == dict(type='CheckpointHook', interval=1, by_epoch=True)
    assert cfg.log_processor == dict(type='LogProcessor', by_epoch=True)
    with pytest.raises(ValueError, match='neither max_iters nor max_epochs'):
        use_epochs(Config(dict(train_cfg={})), 1)


@pytest.mark.parametrize(
    'epochs, finetune, options, after',
    [
        (None, True, None, 24),
        (None, True, {'train_cfg.max_iters': 5}, None),
        (None, True, {'param_scheduler.0.end': 5}, None),
        (None, True, {'model.x': 5}, 24),
        (None, False, None, None),
        (3, False, None, 3),
        (3, True, {}, 3),
    ],
)
def test_who_sets_the_schedule(epochs, finetune, options, after):
    cfg = Config(dict(train_cfg=dict(max_iters=10)))
    use_schedule(cfg, epochs, finetune, options)
    assert cfg.train_cfg.get('max_epochs') == after


def test_samplers_that_end_are_left_alone():
    for loader in ({}, dict(sampler={}), dict(sampler=dict(type='DefaultSampler'))):
        cfg = Config(dict(train_cfg=dict(by_epoch=True), train_dataloader=loader))
        fit_sampler(cfg)
        assert cfg.train_dataloader == loader


def test_geometry_that_comes_at_once():
    for options in (dict(warmup=-1), dict(start=-1, warmup=1)):
        with pytest.raises(ValueError, match='start and warmup must be >= 0'):
            GeometryWarmupHook(**options)
    hook = GeometryWarmupHook(start=2)
    assert [hook.factor(i) for i in (1, 2, 3)] == [0, 1, 1]


# ---- chains -------------------------------------------------------------------


@pytest.mark.parametrize('number', [1, 2])
def test_commands_of_a_chain(number, monkeypatch, tmp_path):
    """And that 90 seconds are a minute and a half."""
    calls, lines, ends, clock = [], [], iter([False, True]), iter([10.0, 100.0] * 2)
    monkeypatch.setattr(recipe, 'run', lambda *args: calls.append(args))
    monkeypatch.setattr(recipe, 'check_origin', lambda cfg, seed: None)
    monkeypatch.setattr(recipe, 'finished', lambda path: next(ends))
    monkeypatch.setattr(recipe.time, 'time', lambda: next(clock))
    training = recipe.Training('mine', 'configs/x.py', 3)
    cfg = Config(dict(work_dir=str(tmp_path), train_cfg=dict(max_iters=7)))
    vars(training)['cfg'] = cfg
    recipe.train(training, ['--amp'], number, lines.append)
    recipe.test(training, ['--steps', '1'], lines.append)
    (command, log, *_), (tested, test_log) = calls
    start = ['train.py', 'configs/x.py'] if number == 1 else ['dist_train.sh', 'configs/x.py', '2']
    assert os.path.basename(command[1]) == start[0] and command[2 : len(start) + 1] == start[1:]
    assert command[len(start) + 1 :] == ['--train-seed', '3', '--resume', '--amp']
    assert tested[2:4] == ['configs/x.py', f'{tmp_path}/iter_7.pth']
    assert (log, test_log) == (tmp_path / 'train.log', tmp_path / 'test.log')
    assert 'trained in 1.5 min' in lines[0] and 'tested in 1.5 min' in lines[1]


def test_trainings_without_a_file_for_the_seed():
    """They matter if they were asked for, by name or as one of all."""
    named = [t.name for t in recipe.recipe('repro10k', 7, ['baseline'])]
    assert 'baseline' in named and '20to1' not in named
    for trainings in (['20to1'], None):
        with pytest.raises(FileNotFoundError, match='20to1_seed7.py'):
            recipe.recipe('repro10k', 7, trainings)
