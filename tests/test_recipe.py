"""The chain of trainings: order, resuming, seeds, jobs."""
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from tiny import ROOT, build, runner_config, tiny_config, write_coco

from mmdiffdet.engine import load_checkpoint_file
from mmdiffdet.engine.launch import read_config, require_checkpoint
from mmdiffdet.engine.recipe import STAGES, recipe, run_chain, train

D3PM = dict(LABEL_STATE=True, LABEL_D3PM=True)
CHAIN = ['baseline', 'warmstart', '20to1']
ENVIRONMENT = dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A recipe of the tiny model, two iterations a stage."""
    data = write_coco(tmp_path)
    folder = tmp_path / 'mini'
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('TRAIN_SEED', raising=False)
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    seed = "{{'$TRAIN_SEED:0'}}"

    def write(name, load_from=None, teacher=False, **options):
        cfg = runner_config(data, tmp_path, **options)
        cfg.pop('work_dir')
        if teacher:
            cfg.custom_hooks = [dict(
                type='SamplerDistillHook', teacher_steps=2,
                teacher=dict(checkpoint=f'{load_from}@seed@/iter_2.pth'))]
        text = cfg.pretty_text + f'\nrandomness = dict(seed={seed})\n'
        if load_from:
            text += f"load_from = '{load_from}@seed@/iter_2.pth'\n"
        (folder / f'{name}.py').write_text(
            text.replace('@seed@', '_seed{{$TRAIN_SEED:0}}'))

    write('mini')
    write('mini_warmstart', 'work_dirs/mini', **D3PM)
    write('mini_no_teacher', 'work_dirs/mini_warmstart', **D3PM)
    write('mini_20to1', 'work_dirs/mini_warmstart', teacher=True, **D3PM)
    write('mini_geo_feat', 'work_dirs/mini_20to1', **D3PM, GEO_FEAT=True)
    return folder


def weights(path):
    return load_checkpoint_file(str(path))['state_dict']


def test_a_chain_trains_tests_and_skips(folder):
    lines = []
    tests = ['--eval-seeds', '0', '1', '--ledger', 'rows.tsv']
    done = run_chain('mini', 3, CHAIN, test_arguments=tests,
                     say=lines.append)
    assert list(done) == CHAIN
    assert done['20to1'] == 'work_dirs/mini_20to1_seed3/iter_2.pth'
    assert sum('trained in' in line for line in lines) == 3
    rows = (folder.parent / 'rows.tsv').read_text().splitlines()
    assert len(rows) == 1 + 3 * 2
    assert all('\t3\t' in f'\t{row}' for row in rows[1:])
    meta = load_checkpoint_file(done['20to1'])['meta']
    assert meta['teacher']['checkpoint'].endswith(
        'mini_warmstart_seed3/iter_2.pth')

    lines.clear()
    run_chain('mini', 3, CHAIN, say=lines.append)
    assert sum('is there' in line for line in lines) == 3

    # a new baseline under an old student is told, not overlooked
    os.utime('work_dirs/mini_seed3/iter_2.pth')
    with pytest.raises(RuntimeError, match='older than .*mini_seed3'):
        run_chain('mini', 3, say=lines.append)


def test_seeds_are_jobs_of_submitit(folder):
    pytest.importorskip('submitit')
    found = subprocess.run(
        [sys.executable, str(ROOT / 'tools/run_recipe.py'), 'mini',
         '--train-seeds', '0', '1', '--stages', 'baseline',
         '--executor', 'local', '--train-args', '--cfg-options',
         'default_hooks.logger.interval=2'],
        env=ENVIRONMENT, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr
    ends = [weights(f'work_dirs/mini_seed{s}/iter_2.pth')
            for s in (0, 1)]
    assert any(not torch.equal(a, b)
               for a, b in zip(ends[0].values(), ends[1].values()))
    assert re.search(r'seed 1 +baseline .*mini_seed1/iter_2.pth',
                     found.stdout)


def test_a_stage_that_fails_names_its_log_and_stops_the_chain(folder):
    path = folder / 'mini.py'
    path.write_text(path.read_text() + "model['nonsense'] = 1\n")
    with pytest.raises(RuntimeError, match='nonsense(.|\n)*train.log'):
        run_chain('mini', 0, say=lambda line: None)
    assert not (folder.parent / 'work_dirs/mini_warmstart_seed0').exists()


def test_missing_start_names_the_command(folder, monkeypatch):
    stage = recipe('mini', 0)[1]
    with pytest.raises(RuntimeError, match='mini_seed0/iter_2.pth does not'):
        train(stage, say=lambda line: None)
    monkeypatch.chdir(ROOT)
    with pytest.raises(FileNotFoundError, match='tools/train.py configs/bccd/'
                       'bccd_warmstart.py --train-seed 4'):
        require_checkpoint('work_dirs/bccd_warmstart_seed4/no.pth', 'teacher')


def test_recipes_of_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)
    for name in ('demo', 'bccd', 'repro10k'):
        before = None
        stages = recipe(name, 2)
        assert [stage.name for stage in stages] == list(STAGES)
        for stage in stages:
            cfg = stage.read()
            assert cfg.randomness.seed == 2
            assert cfg.load_from == before
            if stage.name == 'no_teacher':  # a branch
                assert not cfg.custom_hooks
                continue
            if stage.name == '20to1':
                assert cfg.custom_hooks[0].teacher.checkpoint == before
            before = stage.checkpoint
            assert '_seed2/' in before
    with pytest.raises(ValueError, match="'bccd', 'demo', 'repro10k'"):
        recipe('coco2', 0)
    with pytest.raises(FileNotFoundError, match='repro10k_seed7.py'):
        recipe('repro10k', 7)
    with pytest.raises(ValueError, match='train seed 3: .*seed=0'):
        read_config('configs/distill/20to1_seed0.py', 3)


def test_a_killed_training_ends_at_the_same_weights(folder):
    """SIGKILL at three points of a distillation, then the same command."""
    path = folder / 'mini_20to1.py'
    path.write_text(path.read_text() + 'train_cfg = dict('
                    "type='IterBasedTrainLoop', max_iters=8, "
                    'val_interval=100)\n')
    teacher = build(tiny_config(**D3PM), seed=5)
    (folder.parent / 'work_dirs/mini_warmstart_seed0').mkdir(parents=True)
    torch.save(dict(state_dict=teacher.state_dict()),
               'work_dirs/mini_warmstart_seed0/iter_2.pth')
    stage = recipe('mini', 0)[3]
    train(stage, ['--work-dir', 'whole'], say=lambda line: None)
    command = [sys.executable, str(ROOT / 'tools/train.py'), stage.config,
               '--train-seed', '0', '--resume']
    for iteration in (1, 3, 6):
        process = subprocess.Popen(
            command, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT)
        for line in process.stdout:
            if re.search(rf'Iter\(train\) \[ *{iteration}/8\]', line):
                break
        else:
            pytest.fail(f'no iteration {iteration}')
        time.sleep(0.02 * iteration)
        process.send_signal(signal.SIGKILL)
        process.wait()
    train(stage, say=lambda line: None)
    whole = load_checkpoint_file('whole/iter_8.pth')
    pieces = load_checkpoint_file('work_dirs/mini_20to1_seed0/iter_8.pth')
    for key, value in whole['state_dict'].items():
        assert torch.equal(value, pieces['state_dict'][key]), key

