"""The chain of trainings: order, resuming, seeds, jobs."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import forked
import pytest
import torch
from tiny import ROOT, build, runner_config, tiny_config, write_coco

from mmdiffdet.config.file import read_config
from mmdiffdet.engine import child_process, load_checkpoint_file
from mmdiffdet.engine.provenance import finished
from mmdiffdet.engine.recipe import TRAININGS, recipe, run_chain, train
from mmdiffdet.engine.require_checkpoint import require_checkpoint
from mmdiffdet.engine.trainer import build_trainer, training_lock, use_amp

D3PM = ['d3pm']
CHAIN = ['baseline', 'warmstart', '20to1']
ENVIRONMENT = dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A recipe of the tiny model, two iterations a training."""
    data = write_coco(tmp_path)
    if hasattr(os, 'fork'):  # where not, each training takes its seconds to start
        forking = SimpleNamespace(Popen=forked.Popen, STDOUT=subprocess.STDOUT)
        monkeypatch.setattr(child_process, 'subprocess', forking)
    folder = tmp_path / 'mini'
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('TRAIN_SEED', raising=False)
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    seed = "{{'$TRAIN_SEED:0'}}"

    def write(name, load_from=None, parts=(), teacher=False):
        cfg = runner_config(data, tmp_path, parts)
        cfg.pop('work_dir')
        if teacher:
            cfg.custom_hooks = [
                dict(
                    type='SamplerDistillHook',
                    teacher_steps=2,
                    teacher=dict(checkpoint=f'{load_from}@seed@/iter_2.pth'),
                )
            ]
        text = cfg.pretty_text + f'\nrandomness = dict(seed={seed})\n'
        if load_from:
            text += f"load_from = '{load_from}@seed@/iter_2.pth'\n"
        (folder / f'{name}.py').write_text(text.replace('@seed@', '_seed{{$TRAIN_SEED:0}}'))

    write('mini')
    write('mini_warmstart', 'work_dirs/mini', D3PM)
    write('mini_no_teacher', 'work_dirs/mini_warmstart', D3PM)
    write('mini_20to1', 'work_dirs/mini_warmstart', D3PM, teacher=True)
    write('mini_geo_feat', 'work_dirs/mini_20to1', [*D3PM, 'geo_feat'])
    return folder


def weights(path):
    return load_checkpoint_file(str(path))['state_dict']


def test_a_chain_trains_tests_and_skips(folder):
    lines = []
    tests = ['--eval-seeds', '0', '1', '--ledger', 'rows.tsv']
    run_chain('mini', 3, CHAIN[:2], say=lines.append)
    done = run_chain('mini', 3, CHAIN[2:], test_arguments=tests, say=lines.append)
    assert done == {'20to1': 'work_dirs/mini_20to1_seed3/iter_2.pth'}
    assert sum('trained in' in line for line in lines) == 3
    rows = (folder.parent / 'rows.tsv').read_text().splitlines()
    assert len(rows) == 1 + 2
    assert all('\t3\t' in f'\t{row}' for row in rows[1:])
    meta = load_checkpoint_file(done['20to1'])['meta']
    assert meta['teacher']['checkpoint'].endswith('mini_warmstart_seed3/iter_2.pth')

    lines.clear()
    run_chain('mini', 3, CHAIN, say=lines.append)
    assert sum('is there' in line for line in lines) == 3

    # another baseline under an old student is told, not overlooked; also if
    # the training in between was not asked for
    path = Path('work_dirs/mini_seed3/iter_2.pth')
    checkpoint = torch.load(path, weights_only=False)
    checkpoint['message_hub'] = None
    torch.save(checkpoint, path)
    for trainings in (CHAIN, ['20to1']):
        with pytest.raises(
            RuntimeError,
            match='mini_warmstart_seed3/iter_2.pth is not '
            'of this config: it was started from another '
            'work_dirs/mini_seed3/iter_2.pth',
        ):
            run_chain('mini', 3, trainings, say=lines.append)


def test_seeds_are_jobs_of_submitit(folder):
    pytest.importorskip('submitit')
    found = subprocess.run(
        [
            sys.executable,
            str(ROOT / 'tools/run_recipe.py'),
            'mini',
            '--train-seeds',
            '0',
            '1',
            '--trainings',
            'baseline',
            '--executor',
            'local',
            '--train-args',
            '--cfg-options',
            'default_hooks.logger.interval=2',
        ],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    ends = [weights(f'work_dirs/mini_seed{s}/iter_2.pth') for s in (0, 1)]
    assert any(not torch.equal(a, b) for a, b in zip(ends[0].values(), ends[1].values()))
    assert re.search(r'seed 1 +baseline .*mini_seed1/iter_2.pth', found.stdout)


def test_what_is_there_must_be_of_the_config(folder):
    training = recipe('mini', 0)[0]
    train(training, say=lambda line: None)
    done = Path(training.checkpoint)
    plain = (folder / 'mini.py').read_text()
    (folder / 'mini.py').write_text(plain + 'optim_wrapper["optimizer"]["lr"] = 1\n')
    with pytest.raises(RuntimeError, match='optimizer is another.*Remove'):
        train(recipe('mini', 0)[0], say=lambda line: None)
    (folder / 'mini.py').write_text(plain)
    other = recipe('mini', 1)[0]
    shutil.copytree(done.parent, other.work_dir)
    with pytest.raises(RuntimeError, match='its train seed is 0'):
        train(other, say=lambda line: None)
    # a kill in the middle of the last save: the file is there, not its mark
    mark = done.with_name('last_checkpoint')
    assert finished(str(done))
    mark.unlink()
    done.write_bytes(done.read_bytes()[:1000])
    assert not finished(str(done))
    lines = []
    train(training, say=lines.append)
    assert 'trained in' in lines[0] and finished(str(done))
    # nobody else trains there meanwhile
    with training_lock(training.work_dir):
        mark.unlink()
        with pytest.raises(RuntimeError, match='another process is training'):
            train(training, say=lambda line: None)


@pytest.mark.parametrize(
    'arguments',
    [
        ['--work-dir', 'x'],
        ['--amp', '--train-seed', '3'],
        ['--cfg-options', 'train_cfg.max_iters=5'],
        ['--cfg-options', 'randomness.seed=5'],
    ],
)
def test_arguments_that_lead_elsewhere_are_refused(folder, arguments):
    with pytest.raises(ValueError, match='cannot be given to a chain'):
        train(recipe('mini', 0)[0], arguments, say=lambda line: None)


def test_train_seeds_are_told_to_the_config_alone(folder, monkeypatch):
    monkeypatch.setenv('TRAIN_SEED', '7')
    plain = read_config('mini/mini.py')
    assert plain.randomness.seed == 0 and plain.work_dir == 'work_dirs/mini'
    assert read_config('mini/mini.py', 4).work_dir == 'work_dirs/mini_seed4'
    assert os.environ['TRAIN_SEED'] == '7'
    text = (folder / 'mini.py').read_text()
    (folder / 'mini.py').write_text(text + "work_dir = 'elsewhere'\n")
    assert read_config('mini/mini.py', 4).work_dir == 'elsewhere_seed4'


def test_a_stage_that_fails_names_its_log_and_stops_the_chain(folder):
    path = folder / 'mini.py'
    path.write_text(path.read_text() + "model['nonsense'] = 1\n")
    with pytest.raises(RuntimeError, match='nonsense(.|\n)*train.log'):
        run_chain('mini', 0, say=lambda line: None)
    assert not (folder.parent / 'work_dirs/mini_warmstart_seed0').exists()


def test_missing_start_names_the_command(folder, monkeypatch):
    training = recipe('mini', 0)[1]
    with pytest.raises(RuntimeError, match='mini_seed0/iter_2.pth does not'):
        train(training, say=lambda line: None)
    monkeypatch.chdir(ROOT)
    with pytest.raises(FileNotFoundError, match='no configs/distill/20to1_seed7.py'):
        require_checkpoint('work_dirs/20to1_seed7/no.pth', 'load_from')
    command = 'tools/train.py configs/demo/demo.py --train-seed 4 --part d3pm qfl'
    with pytest.raises(FileNotFoundError, match=command):
        require_checkpoint('work_dirs/demo+d3pm+qfl_seed4/no.pth', 'load_from')
    with pytest.raises(
        FileNotFoundError, match='tools/train.py configs/bccd/bccd_warmstart.py --train-seed 4'
    ):
        require_checkpoint('work_dirs/bccd_warmstart_seed4/no.pth', 'teacher')


def test_a_training_with_a_part():
    plain, other, detr = recipe('demo_models', 2)
    assert plain.arguments == ['--train-seed', '2']
    assert other.arguments == ['--train-seed', '2', '--part', 'd3pm_quality']
    assert other.checkpoint == 'work_dirs/demo+d3pm_quality_seed2/iter_300.pth'
    assert other.cfg.model.label_scheduler.type == 'D3PMScheduler'
    assert 'label_scheduler' not in plain.cfg.model


def test_recipes_of_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)
    for name in ('demo', 'bccd', 'repro10k'):
        before = None
        trainings = recipe(name, 2)
        assert [training.name for training in trainings] == list(TRAININGS)
        for training in trainings:
            cfg = training.cfg
            assert cfg.randomness.seed == 2
            assert cfg.load_from == before
            if training.name == 'no_teacher':  # a branch
                assert not cfg.custom_hooks
                continue
            if training.name == '20to1':
                assert cfg.custom_hooks[0].teacher.checkpoint == before
            before = training.checkpoint
            assert '_seed2/' in before
    with pytest.raises(ValueError, match="'bccd', 'demo', 'demo_models'"):
        recipe('coco2', 0)
    with pytest.raises(FileNotFoundError, match='20to1_seed7.py'):
        recipe('repro10k', 7)
    with pytest.raises(ValueError, match='train seed 3: .*seed=0'):
        read_config('configs/distill/20to1_seed0.py', 3)
    assert read_config('configs/distill/20to1_seed0.py', 0).work_dir == 'work_dirs/20to1_seed0'
    with pytest.raises(ValueError, match="no trainings .'warm'"):
        recipe('demo', 0, ['warm'])


def test_a_killed_training_ends_at_the_same_weights(folder):
    """SIGKILL at three points of a distillation, then the same command."""
    path = folder / 'mini_20to1.py'
    path.write_text(
        path.read_text() + 'train_cfg = dict('
        "type='IterBasedTrainLoop', max_iters=8, "
        'val_interval=100)\n'
    )
    teacher = build(tiny_config(D3PM), seed=5)
    (folder.parent / 'work_dirs/mini_warmstart_seed0').mkdir(parents=True)
    torch.save(dict(state_dict=teacher.state_dict()), 'work_dirs/mini_warmstart_seed0/iter_2.pth')
    training = recipe('mini', 0)[3]
    command = [
        sys.executable,
        str(ROOT / 'tools/train.py'),
        training.config,
        '--train-seed',
        '0',
        '--resume',
    ]
    child_process.run([*command, '--work-dir', 'whole'], Path('whole.log'))
    for iteration in (1, 3, 6):
        process = child_process.subprocess.Popen(
            command,
            env=ENVIRONMENT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for line in process.stdout:
            if re.search(rf'Iter\(train\) \[ *{iteration}/8\]', line):
                break
        else:
            pytest.fail(f'no iteration {iteration}')
        time.sleep(0.02 * iteration)
        process.kill()
        process.wait()
    train(training, say=lambda line: None)
    whole = load_checkpoint_file('whole/iter_8.pth')
    pieces = load_checkpoint_file('work_dirs/mini_20to1_seed0/iter_8.pth')
    for key, value in whole['state_dict'].items():
        assert torch.equal(value, pieces['state_dict'][key]), key


def test_a_command_that_fails_shows_the_end_of_its_output(tmp_path):
    log = tmp_path / 'sub/x.log'
    script = 'import sys; [print(f"line {i}") for i in range(20)]; sys.exit(3)'
    seen = []
    with pytest.raises(RuntimeError, match='all output is in') as error:
        child_process.run([sys.executable, '-c', script], log, seen.append, r'line \d*5$')
    shown = str(error.value).splitlines()
    assert [line for line in shown if line.startswith('line')] == [
        f'line {i}' for i in range(8, 20)
    ]
    assert seen == ['line 5', 'line 15']
    assert log.read_text().count('line') == 20 + 1  # and the command itself


@pytest.mark.parametrize(
    'gpu, bf16, wrapper, precision',
    [
        (False, False, 'PartBf16OptimWrapper', 'bf16'),
        (True, True, 'PartAmpOptimWrapper', 'bf16'),
        (True, False, 'PartAmpOptimWrapper', None),
    ],
)
def test_mixed_precision_of_a_machine(gpu, bf16, wrapper, precision, monkeypatch):
    """And of the teacher, where bfloat16 is there and it names none."""
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpu)
    # emulated bfloat16 does not count
    monkeypatch.setattr(
        torch.cuda,
        'is_bf16_supported',
        lambda including_emulation=True: including_emulation or bf16,
    )
    cfg = read_config('configs/demo/demo_20to1.py', 0)
    use_amp(cfg, True)
    assert cfg.optim_wrapper.type == wrapper
    assert ('loss_scale' in cfg.optim_wrapper) == gpu
    assert cfg.custom_hooks[0].teacher.get('precision') == precision
    cfg = read_config('configs/demo/demo_20to1.py', 0)
    cfg.custom_hooks[0].teacher.precision = 'fp32'
    use_amp(cfg, True)
    assert cfg.custom_hooks[0].teacher.precision == 'fp32'
    cfg = read_config('configs/demo/demo_20to1.py', 0)
    use_amp(cfg, False)
    assert cfg.optim_wrapper.type == 'PartOptimWrapper'


def test_amp_of_other_wrappers(monkeypatch):
    """MMDetection's own model gets MMEngine's, where there is a GPU."""
    for gpu, wrapper in ((True, 'AmpOptimWrapper'), (False, 'PartBf16OptimWrapper')):
        monkeypatch.setattr(torch.cuda, 'is_available', lambda gpu=gpu: gpu)
        cfg = read_config('configs/detr/detr_demo.py')
        use_amp(cfg, True)
        assert cfg.optim_wrapper.type == wrapper
    cfg.optim_wrapper = dict(type='MyOptimWrapper')
    with pytest.raises(ValueError, match='--amp: optim_wrapper.type is MyOptimWrapper'):
        use_amp(cfg, True)


def test_a_strategy_alone_is_told():
    cfg = read_config('configs/demo/demo.py', options={'strategy.type': 'WholeFSDPStrategy'})
    with pytest.raises(ValueError, match='needs runner_type=FlexibleRunner'):
        build_trainer(cfg)
