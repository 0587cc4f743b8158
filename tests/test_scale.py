"""More machines, compiled code, other strategies."""
import copy
import os
import subprocess

import pytest
import torch
from mmengine.runner import Runner
from tiny import ROOT, batch, build, runner_config, tiny_config, write_coco

from mmdiffdet.engine.compile_hook import CompileHook, use_compile
from mmdiffdet.engine.launch import training_lock


@pytest.mark.parametrize('tool, last, options', [
    ('train', 'my dir', ['--amp', '--cfg-options', 'a.b="[1,2]"']),
    ('test', 'x.pth', ['--eval-seeds', '0', '1'])])
def test_slurm(tool, last, options, tmp_path):
    """What a user types becomes one call of srun."""
    fake = tmp_path / 'srun'
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    fake.chmod(0o755)
    environment = dict(
        os.environ, PATH=f'{tmp_path}:{os.environ["PATH"]}', GPUS='16',
        GPUS_PER_NODE='4', SRUN_ARGS='--time 1:00 --exclusive')
    script = ROOT / f'tools/slurm_{tool}.sh'
    done = subprocess.run(
        [script, 'gpu', 'my job', 'c.py', last, *options], env=environment,
        capture_output=True, text=True, check=True)
    words = done.stdout.splitlines()
    assert words[:words.index('python')] == [
        '-p', 'gpu', '--job-name=my job', '--gres=gpu:4', '--ntasks=16',
        '--ntasks-per-node=4', '--cpus-per-task=5', '--kill-on-bad-exit=1',
        '--time', '1:00', '--exclusive']
    given = ['--work-dir', last] if tool == 'train' else [last]
    assert words[words.index('python'):] == [
        'python', '-u', f'{ROOT}/tools/{tool}.py', 'c.py', *given,
        '--launcher', 'slurm', *options]
    for name in ('GPUS', 'GPUS_PER_NODE', 'SRUN_ARGS'):
        del environment[name]
    done = subprocess.run([script, 'gpu', 'j', 'c.py', last],
                          env=dict(environment, GPUS='2'),
                          capture_output=True, text=True, check=True)
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


def train(cfg, name, runner_type=Runner):
    """Train; gives the runner and the weights that it saved."""
    cfg.experiment_name = f'{cfg.work_dir}_{name}'.replace('/', '_')
    runner = runner_type.from_cfg(cfg)
    runner.train()
    return runner, torch.load(
        f'{cfg.work_dir}/iter_2.pth', weights_only=False)


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
            dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.001),
            dict(type='ConsistencyDistillHook', teacher=dict(
                checkpoint=str(tmp_path / 'teacher.pth')))]
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
    assert copied.backbone(torch.zeros(1, 3, 64, 64))[0].shape[1] == 4
    assert not torch._dynamo.utils.counters['graph_break'], dict(
        torch._dynamo.utils.counters['graph_break'])


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
