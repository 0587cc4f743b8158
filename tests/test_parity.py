"""Replays of recorded files."""

import runpy
import shutil
import sys

import pytest
import safetensors.torch
from safetensors import safe_open
from tiny import ROOT, SHARED

from mmdiffdet.convert.parity import replay

DATA = ROOT / 'tests/data'
OWN = sorted(DATA.glob('*.safetensors'))
REFERENCE = sorted((DATA / 'reference').glob('*.safetensors'))
ALL = sorted((SHARED / 'seed/goldens').glob('*.safetensors'))


def test_there_is_something_to_replay():
    assert {p.stem.split('_')[0] for p in OWN} == {'head', 'grad', 'sample', 'loss', 'schedules'}


@pytest.mark.parametrize('path', OWN, ids=lambda p: p.stem)
def test_own_files(path):
    report = replay(path)
    assert report.ok, str(report)


def test_the_reference_is_there():
    assert {p.stem.split('_')[0] for p in REFERENCE} == {'head', 'sample', 'loss', 'schedules'}


@pytest.mark.parametrize('path', REFERENCE, ids=lambda p: p.stem)
def test_files_of_the_reference(path):
    report = replay(path)
    assert report.ok, str(report)


@pytest.mark.skipif(not ALL, reason='needs ../shared/seed/goldens')
@pytest.mark.parametrize('path', ALL, ids=lambda p: p.stem)
def test_all_files_of_the_reference(path):
    report = replay(path)
    assert report.ok, str(report)


@pytest.mark.parametrize(
    'name, key',
    [
        ('head_parts', 'out.logits'),
        ('grad_parts', 'grad.feat0'),
        ('sample_guided_2', 'out.boxes'),
        ('loss_mixed', 'out.loss_giou_0'),
        ('loss_mixed', 'out.assigned_gt1'),
        ('schedules', 'timesteps.4'),
    ],
)
def test_a_changed_number_is_found(tmp_path, name, key):
    with safe_open(DATA / f'{name}.safetensors', 'pt') as file:
        tensors = {k: file.get_tensor(k) for k in file.keys()}
        metadata = file.metadata()
    largest = tensors[key].abs().max()
    flat = tensors[key].view(-1)
    flat[-1] += largest * 0.01 if flat.is_floating_point() else 1
    path = tmp_path / f'{name}.safetensors'
    safetensors.torch.save_file(tensors, path, metadata)
    report = replay(path)
    assert not report.ok and 'MISMATCH' in str(report)


def check_parity(monkeypatch, *args):
    monkeypatch.setattr(sys, 'argv', ['check_parity.py', *map(str, args)])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(ROOT / 'tools/check_parity.py'), run_name='__main__')
    return stop.value.code


def test_tool(monkeypatch, capsys, tmp_path):
    assert check_parity(monkeypatch, DATA) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(OWN) + 1
    assert all(line.endswith('ok') for line in lines)
    assert check_parity(monkeypatch, DATA, '--only', 'head_*') == 0
    assert len(capsys.readouterr().out.splitlines()) == 2

    shutil.copy(OWN[0], tmp_path / 'unheard_of.safetensors')
    (tmp_path / 'head_broken.safetensors').write_bytes(b'x' * 64)
    assert check_parity(monkeypatch, tmp_path) == 1
    printed = capsys.readouterr().out
    assert printed.count('not supported yet') == 1
    assert printed.count('MISMATCH') == 1
    assert check_parity(monkeypatch, tmp_path, '--only', 'none_*') == 2
