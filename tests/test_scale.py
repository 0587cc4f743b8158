"""More machines, compiled code, other strategies."""
import os
import subprocess

import pytest
from tiny import ROOT

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
