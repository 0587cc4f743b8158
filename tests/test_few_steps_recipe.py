"""The study of few sampling steps: that its pieces fit, and a tiny one from end to end."""

import os
import re
import runpy
import subprocess
import sys
from types import SimpleNamespace

import forked
import pytest
from mmengine.config import DictAction
from tiny import ROOT, runner_config, write_coco

from mmdiffdet.config.file import read_config
from mmdiffdet.engine import child_process, few_steps, recipe


def test_every_training_starts_from_one_before():
    done, started = [], 0
    for training in recipe.recipe('few_steps', 3):
        # boxes of data that may not be there
        prior = {'model.box_codec.noise_mean': (0, 0, -1, -1)}
        options = prior if {'prior', 'flow_prior'} & {*training.parts} else None
        cfg = read_config(training.config, 3, options, training.parts)
        if cfg.load_from:
            started += 1
            assert cfg.load_from in done, training.name
            teachers = [h.teacher.checkpoint for h in cfg.custom_hooks if 'teacher' in h]
            assert set(teachers) <= {cfg.load_from}
        assert cfg.work_dir == f'work_dirs/{training.name}_seed3'
        done.append(f'{cfg.work_dir}/iter_{cfg.train_cfg.max_iters}.pth')
    assert len(done) == 25 and started == 12


@pytest.mark.parametrize('training', ['bccd', 'pcb_no_teacher', 'bccd+flow'])
def test_ways_to_test_are_of_the_config(training):
    """Each option exists, and user's arguments come after."""
    ways = few_steps.tests(training)
    assert len(ways) == (4 if '+' in training else 13)
    names = set()
    for way in ways:
        middle = way.index('--cfg-options')
        assert way[0] == '--exp-name' and way[2] == '--steps'
        assert way[3:middle] in (list(few_steps.STEPS), ['1'])
        [option] = way[middle + 1 :]
        key, value = option.split('=')
        assert way[1] == f'{training}+{key.split(".")[-1]}={value}'
        names.add(way[1])
        if value != 'from_file':
            changes = {key: DictAction._parse_int_float_bool(value)}
            data = training.split('+')[0]
            read_config(f'configs/{data.split("_")[0]}/{data}.py', 0, changes)
    assert len(names) == len(ways)


def test_what_is_compared_was_tested():
    trainings = list(few_steps.TRAININGS)
    pairs = few_steps.comparisons(trainings)
    named = {way[1] for training in trainings for way in few_steps.tests(training)}
    assert len(pairs) == 19
    for a, b, *across in pairs:
        for label in (a, b):
            assert re.fullmatch(r'(.*)@sample_step=1', label)[1] in named
        assert (across == ['scheduler']) == ('+flow' in b)
    assert few_steps.comparisons(['bccd', 'bccd_20to1']) == []
    [[_, b]] = few_steps.comparisons(['bccd', 'bccd+prior'], ['4', '2'])
    assert b.endswith('sample_step=2')


def test_a_tiny_study_ends_with_a_page(tmp_path, monkeypatch, capfd):
    """The command as a person gives it: trains, tests, tells, and is done the second time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    if hasattr(os, 'fork'):  # where not, each training takes its seconds to start
        forking = SimpleNamespace(Popen=forked.Popen, STDOUT=subprocess.STDOUT)
        monkeypatch.setattr(child_process, 'subprocess', forking)
    cfg = runner_config(write_coco(tmp_path / 'data'), tmp_path)
    cfg.pop('work_dir')
    cfg.test_dataloader.dataset.indices = 2
    seed = "{{'$TRAIN_SEED:0'}}"
    (tmp_path / 'mini.py').write_text(f'{cfg.pretty_text}\nrandomness = dict(seed={seed})\n')
    mini = str(tmp_path / 'mini')
    trainings = dict(mini=mini, **{'mini+flow': f'{mini}+flow'})
    monkeypatch.setitem(recipe._RECIPES, 'tiny_study', trainings)
    pair = [f'{name}+five@sample_step=1' for name in trainings]
    way = ['--steps', '1', '2', '--cfg-options', 'model.test_cfg.num_proposals=5']
    study = SimpleNamespace(
        STEPS=('1', '2'),
        tests=lambda name: [['--exp-name', f'{name}+five', *way]],
        comparisons=lambda names, steps: [[*pair, 'scheduler']] if len(names) == 2 else [],
    )
    monkeypatch.setitem(recipe.STUDIES, 'tiny_study', study)
    tool = str(ROOT / 'tools/run_recipe.py')
    options = ['--test-cfg-options', 'test_cfg.precision=bf16']
    monkeypatch.setattr(sys, 'argv', [tool, 'tiny_study', '--eval-seeds', '0', '1', *options])
    runpy.run_path(tool, run_name='__main__')
    ledger = tmp_path / 'work_dirs/ledger/tiny_study.tsv'
    rows = ledger.read_text().splitlines()
    assert len(rows) == 1 + 2 * 2 * 2
    assert all('\tbf16\t' in row for row in rows[1:])
    page = (tmp_path / 'work_dirs/ledger/tiny_study.html').read_text()
    assert 'that no other beats' in page and page.count('<svg') == 1
    assert f'{pair[1]} against {pair[0]}' in page
    before = os.stat(ledger).st_mtime
    capfd.readouterr()
    monkeypatch.setattr(sys, 'argv', [tool, 'tiny_study', '--trainings', 'mini'])
    runpy.run_path(tool, run_name='__main__')
    assert 'is there' in capfd.readouterr().out and os.stat(ledger).st_mtime == before


@pytest.mark.parametrize(
    'options, message',
    [
        (['--test-cfg-options', 'test_cfg.precision=bf16'], 'needs --eval-seeds'),
        (['--eval-seeds', '0', '--test-cfg-options', 'bf16'], 'bf16: must be KEY=VALUE'),
    ],
)
def test_options_of_tests_are_checked_before_a_training(monkeypatch, capsys, options, message):
    tool = str(ROOT / 'tools/run_recipe.py')
    monkeypatch.setattr(sys, 'argv', [tool, 'demo', *options])
    with pytest.raises(SystemExit):
        runpy.run_path(tool, run_name='__main__')
    assert message in capsys.readouterr().err
