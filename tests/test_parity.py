"""Replays of recorded files."""

import runpy
import shutil
import sys

import pytest
import safetensors.torch
import torch
from tiny import ROOT, SHARED

from mmdiffdet.convert.golden import Golden
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
        ('head_parts', 'out.boxes'),
        ('head_parts', 'out.logits'),
        ('head_parts', 'out.quality'),
        ('grad_parts', 'grad.feat0'),
        ('grad_parts', 'grad.head.head_series.0.geo_feat_rel_mlp.2.weight'),
        ('grad_parts', 'out.scalar'),
        ('sample_guided_2', 'out.boxes'),
        ('sample_guided_2', 'out.logits'),
        ('sample_guided_2', 'out.quality'),
        ('loss_mixed', 'out.loss_ce'),
        ('loss_mixed', 'out.loss_giou_0'),
        ('loss_mixed', 'out.loss_graph'),
        ('loss_mixed', 'out.assigned_gt1'),
        ('schedules', 'alphas_cumprod'),
        ('schedules', 'timesteps.4'),
        ('schedules', 'uniform.linear.t500'),
        ('reference/schedules', 'betas'),
    ],
)
def test_a_changed_number_is_found(tmp_path, name, key):
    golden = Golden.load(DATA / f'{name}.safetensors')
    largest = golden.tensors[key].abs().max()
    flat = golden.tensors[key].view(-1)
    flat[-1] += largest * 0.01 if flat.is_floating_point() else 1
    report = replay_of(golden, tmp_path)
    assert not report.ok and 'MISMATCH' in str(report)


def replay_of(golden, folder):
    path = folder / f'{golden.name}.safetensors'
    safetensors.torch.save_file(golden.tensors, path, golden.metadata)
    return replay(path)


@pytest.mark.parametrize('change, ok', [(0, True), (5e-5, True), (5e-4, False)])
def test_attention_is_compared_where_it_is_recorded(change, ok, tmp_path):
    golden = Golden.load(DATA / 'head_parts.safetensors')
    model, tensors = golden.model(), golden.tensors
    with torch.no_grad():
        table = model.bbox_head.tabulate(golden.features())
        inputs = (tensors[f'in.{k}'] for k in ('boxes', 't', 'label_state'))
        output = model.bbox_head(table, *inputs, need_attention=True)
    tensors['out.attn'] = output.attention + change
    report = replay_of(golden, tmp_path)
    assert report.ok == ok and 'attention' in report.errors


@pytest.mark.parametrize('change, ok', [(0.1, True), (1.01, False)])
def test_a_gradient_that_cancels_is_rounding_alone(change, ok, tmp_path):
    """A shift of all logits of a softmax: 4e-8 of a sum, where others are up to 1000.

    Whatever is below a ten-millionth of the largest, 1e-4, is not compared.
    """
    golden = Golden.load(DATA / 'grad_parts.safetensors')
    recorded = {k: v for k, v in golden.tensors.items() if k.startswith('grad.')}
    rounding = 1e-7 * max(v.abs().max() for v in recorded.values())
    name = 'grad.head.head_series.0.geo_feat_rel_mlp.2.bias'
    assert golden.tensors[name].abs().max() < rounding / 100
    golden.tensors[name][:] = change * rounding
    assert replay_of(golden, tmp_path).ok == ok


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
