"""More machines, compiled code, other strategies."""

import copy
import dataclasses
import os
import runpy
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine._strategy import FSDPStrategy
from mmengine.config import Config
from mmengine.runner import FlexibleRunner, Runner
from tiny import ROOT, batch, build, runner_config, tiny_config, write_coco
from torch.distributed.fsdp import FullyShardedDataParallel

from mmdiffdet.engine import WholeFSDPStrategy
from mmdiffdet.engine.compile_hook import CompileHook, use_compile
from mmdiffdet.engine.trainer import build_trainer, training_lock
from mmdiffdet.ledger import Ledger


@pytest.mark.parametrize(
    'tool, last, options',
    [
        ('train', 'my dir', ['--amp', '--cfg-options', 'a.b="[1,2]"']),
        ('test', 'x.pth', ['--eval-seeds', '0', '1']),
    ],
)
def test_slurm(tool, last, options, tmp_path):
    """What a user types becomes one call of srun."""
    fake = tmp_path / 'srun'
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    fake.chmod(0o755)
    environment = dict(
        os.environ,
        PATH=f'{tmp_path}:{os.environ["PATH"]}',
        GPUS='16',
        GPUS_PER_NODE='4',
        SRUN_ARGS='--time 1:00 --exclusive',
    )
    script = ROOT / f'tools/slurm_{tool}.sh'
    done = subprocess.run(
        [script, 'gpu', 'my job', 'c.py', last, *options],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    words = done.stdout.splitlines()
    assert words[: words.index('python')] == [
        '-p',
        'gpu',
        '--job-name=my job',
        '--gres=gpu:4',
        '--ntasks=16',
        '--ntasks-per-node=4',
        '--cpus-per-task=5',
        '--kill-on-bad-exit=1',
        '--time',
        '1:00',
        '--exclusive',
    ]
    given = ['--work-dir', last] if tool == 'train' else [last]
    assert words[words.index('python') :] == [
        'python',
        '-u',
        f'{ROOT}/tools/{tool}.py',
        'c.py',
        *given,
        '--launcher',
        'slurm',
        *options,
    ]
    for name in ('GPUS', 'GPUS_PER_NODE', 'SRUN_ARGS'):
        del environment[name]
    done = subprocess.run(
        [script, 'gpu', 'j', 'c.py', last],
        env=dict(environment, GPUS='2'),
        capture_output=True,
        text=True,
        check=True,
    )
    assert '--gres=gpu:2' in done.stdout and '--ntasks=2' in done.stdout
    done = subprocess.run([script, 'gpu'], capture_output=True, text=True)
    assert done.returncode == 2 and 'PARTITION JOB_NAME' in done.stderr


def test_one_task_of_slurm_holds_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv('SLURM_PROCID', '1')
    with training_lock(tmp_path), training_lock(tmp_path, 'slurm'):
        with pytest.raises(BlockingIOError), training_lock(tmp_path):
            pass


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return write_coco(tmp_path_factory.mktemp('coco'))


def train(cfg, name):
    """Train; gives the runner and the weights that it saved."""
    cfg.experiment_name = f'{cfg.work_dir}_{name}'.replace('/', '_')
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner, torch.load(f'{cfg.work_dir}/iter_2.pth', weights_only=False)


@torch.no_grad()
def detect(runner):
    """Detections of a batch of two image sizes."""
    samples = runner.model.eval().test_step(batch(((64, 96), (48, 80))))
    return [s.pred_instances for s in samples]


def test_compiled_code_computes_the_same(data, tmp_path):
    """Losses, gradients, detections; with average, teacher and checkpoint.

    The backend that generates code needs minutes; this one runs the same
    graphs operator by operator.
    """
    torch.save(build(tiny_config(), 5).state_dict(), tmp_path / 'teacher.pth')
    found = {}
    for name in ('plain', 'compiled'):
        cfg = runner_config(data, tmp_path / name)
        cfg.custom_hooks = [
            dict(type='EMAHook', ema_type='ForeachEMA', momentum=0.001, gamma=2000),
            dict(
                type='ConsistencyDistillHook',
                teacher=dict(checkpoint=str(tmp_path / 'teacher.pth')),
            ),
        ]
        if name == 'compiled':
            cfg.compile = dict(backend='eager')
            use_compile(cfg)
        found[name] = train(cfg, name)
        found[name][1]['found'] = detect(found[name][0])
    (_, plain), (runner, compiled) = found.values()
    assert runner.model.backbone._compiled_call_impl is not None
    for key in ('state_dict', 'ema_state_dict'):
        assert compiled[key].keys() == plain[key].keys()
        for name, value in plain[key].items():
            torch.testing.assert_close(compiled[key][name], value)
    for a, b in zip(compiled['found'], plain['found']):
        torch.testing.assert_close(a.bboxes, b.bboxes, rtol=1e-4, atol=1e-2)
        torch.testing.assert_close(a.scores, b.scores, rtol=1e-4, atol=1e-5)
    copied = copy.deepcopy(runner.model)
    assert copied.backbone._compiled_call_impl is None
    assert copied.backbone(torch.zeros(1, 3, 64, 64))[0].shape[1] == 8
    assert not torch._dynamo.utils.counters['graph_break'], dict(
        torch._dynamo.utils.counters['graph_break']
    )


@pytest.mark.parametrize('mode', ['reduce-overhead', 'max-autotune'])
def test_results_of_graphs_outlive_the_next_graph(mode, monkeypatch):
    """As with CUDA graphs, each call here spoils what earlier ones returned."""
    model = build(tiny_config()).eval()
    expected = detect(SimpleNamespace(model=model))
    handed_out = []

    def tensors(value):
        if torch.is_tensor(value):
            yield value
        elif dataclasses.is_dataclass(value):
            yield from tensors([getattr(value, f.name) for f in dataclasses.fields(value)])
        elif isinstance(value, (list, tuple)):
            for item in value:
                yield from tensors(item)

    def compile_(function, **options):
        def call(*args, **kwargs):
            for tensor in handed_out:
                tensor.fill_(-1)
            result = function(*args, **kwargs)
            handed_out.extend(t for t in tensors(result) if t.is_floating_point())
            return result

        return call

    monkeypatch.setattr(torch, 'compile', compile_)
    CompileHook(mode=mode).before_run(SimpleNamespace(model=model))
    for found, wanted in zip(detect(SimpleNamespace(model=model)), expected):
        assert torch.equal(found.bboxes, wanted.bboxes) and len(handed_out) > 5
        assert torch.equal(found.scores, wanted.scores)


def test_fsdp_keeps_the_scale_of_float16(monkeypatch):
    """Torch's own state of a divided optimiser has nothing but states and groups."""
    strategy = WholeFSDPStrategy.__new__(WholeFSDPStrategy)
    strategy.model, loaded = None, []
    scaler = SimpleNamespace(state_dict=lambda: dict(scale=8.0))
    strategy.optim_wrapper = SimpleNamespace(
        optimizer=None, loss_scaler=scaler, load_state_dict=loaded.append
    )
    whole = dict(state={}, param_groups=[])
    monkeypatch.setattr(FSDPStrategy, 'optim_state_dict', lambda self: dict(whole))
    monkeypatch.setattr(
        FullyShardedDataParallel,
        'optim_state_dict_to_load',
        lambda model, optimizer, state: {k: state[k] for k in state if k in whole},
    )
    saved = strategy.optim_state_dict()
    strategy.load_optim_state_dict(saved)
    assert loaded == [saved] == [dict(whole, loss_scaler=dict(scale=8.0))]


def test_compilation_that_fails_is_told(data, tmp_path, caplog):
    """One warning, and the training goes on."""

    def backend(graph, inputs):
        raise RuntimeError('no compiler here')

    cfg = runner_config(data, tmp_path)
    cfg.experiment_name = 'fails'
    runner = Runner.from_cfg(cfg)
    runner.register_hook(CompileHook(backend=backend))
    with caplog.at_level('WARNING', logger=runner.logger.name):
        runner.logger.addHandler(caplog.handler)
        runner.train()
    told = [r.message for r in caplog.records if 'torch.compile' in r.message]
    assert len(told) == 1 and 'no compiler here' in told[0]
    assert 'failed for backbone' in told[0]
    assert runner.iter == 2
    with pytest.raises(ValueError, match="no module 'head'.*'bbox_head'"):
        CompileHook(modules=['head']).before_run(runner)


def test_flexible_runner(data, tmp_path):
    """One process: as by the ordinary runner, to the last bit."""
    found = {}
    for name in ('plain', 'flexible'):
        cfg = runner_config(data, tmp_path / name)
        cfg.launcher = 'none'
        if name == 'flexible':
            cfg.runner_type = 'FlexibleRunner'
        cfg.experiment_name = f'{tmp_path}_{name}'.replace('/', '_')
        build_trainer(cfg).train()
        found[name] = torch.load(tmp_path / name / 'iter_2.pth', weights_only=False)
    a, b = (found[name]['state_dict'] for name in ('plain', 'flexible'))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert found['flexible']['meta']['seed'] == 0
    cfg.load_from = str(tmp_path / 'plain/iter_2.pth')
    cfg.custom_hooks = [dict(type='LedgerHook', path=str(tmp_path / 'rows.tsv'))]
    cfg.experiment_name += '_test'
    FlexibleRunner.from_cfg(cfg).test()
    assert len(Ledger(tmp_path / 'rows.tsv').read()) == 1


def test_fsdp_refuses_scalar_weights(tmp_path):
    strategy = WholeFSDPStrategy(work_dir=str(tmp_path), experiment_name='scalar')
    with pytest.raises(ValueError, match='label_state.gate'):
        strategy.build_model(build(tiny_config(['d3pm'])))
    assert strategy.build_model(build(tiny_config())) is not None


def train_in_processes(rank, folder, ports):
    """Two trainings, by DDP and by FSDP; the second one is resumed."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2')
    torch.set_num_threads(1)
    train_tool = runpy.run_path(str(ROOT / 'tools/train.py'))
    for port, name, more in zip(
        ports,
        ('ddp', 'fsdp', 'fsdp'),
        ([], [], ['--resume', '--cfg-options', 'train_cfg.max_iters=4']),
    ):
        os.environ['MASTER_PORT'] = port
        sys.argv = [
            'train.py',
            f'{folder}/{name}.py',
            '--work-dir',
            f'{folder}/{name}',
            '--launcher',
            'pytorch',
            *more,
        ]
        train_tool['main']()


def test_fsdp(data, tmp_path, monkeypatch):
    """The weights of ordinary training on as many processes."""
    cfg = runner_config(data, tmp_path)
    cfg.pop('work_dir')
    cfg.optim_wrapper.clip_grad.max_norm = 1.0  # far below the norms
    cfg.dump(tmp_path / 'ddp.py')
    cfg.merge_from_dict(Config.fromfile(ROOT / 'configs/_base_/parts/fsdp.py').part.to_dict())
    cfg.dump(tmp_path / 'fsdp.py')
    monkeypatch.setenv('MASTER_ADDR', '127.0.0.1')
    sockets = [socket.create_server(('127.0.0.1', 0)) for _ in range(3)]
    ports = [str(s.getsockname()[1]) for s in sockets]
    for each in sockets:
        each.close()
    processes = torch.multiprocessing.start_processes(
        train_in_processes, (str(tmp_path), ports), nprocs=2, join=False, start_method='fork'
    )
    try:
        end = time.monotonic() + 100
        while not processes.join(5):
            assert time.monotonic() < end, 'the processes wait for ever'
    finally:
        for process in processes.processes:
            process.kill()
    a, b = (
        torch.load(tmp_path / f'{name}/iter_2.pth', weights_only=False) for name in ('ddp', 'fsdp')
    )
    assert a['state_dict'].keys() == b['state_dict'].keys()
    for name, value in a['state_dict'].items():
        torch.testing.assert_close(b['state_dict'][name], value)
    norms = [c['message_hub']['log_scalars']['train/grad_norm'].data[0] for c in (a, b)]
    np.testing.assert_allclose(norms[1], norms[0], rtol=1e-4)
    assert min(norms[0]) > 10  # so that clipping mattered
    resumed = torch.load(tmp_path / 'fsdp/iter_4.pth', weights_only=False)
    assert resumed['meta']['iter'] == 4
    # the checkpoint is tested as any other, but not under the strategy
    cfg = Config.fromfile(tmp_path / 'fsdp.py')
    cfg.work_dir, cfg.experiment_name = str(tmp_path / 'test'), 'fsdp_test'
    cfg.load_from = str(tmp_path / 'fsdp/iter_2.pth')
    assert 'coco/bbox_mAP' in Runner.from_cfg(cfg).test()
    cfg.launcher = 'none'
    with pytest.raises(ValueError, match='needs a launcher'):
        build_trainer(cfg)
    cfg.launcher = 'pytorch'
    for hook in ('EMAHook', 'ConsistencyModelHook'):
        cfg.custom_hooks = [dict(type=hook)]
        with pytest.raises(ValueError, match=f'{hook} .* cannot be combined'):
            build_trainer(cfg)
    cfg.launcher, cfg.strategy.type = 'pytorch', 'DeepSpeedStrategy'
    with pytest.raises(ValueError, match='DeepSpeedStrategy needs GPUs'):
        build_trainer(cfg)
