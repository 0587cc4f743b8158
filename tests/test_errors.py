"""Errors end in one line that names what was wrong."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from tiny import ROOT, runner_config, write_coco
from torch.utils.data import DataLoader

from mmdiffdet.command import run_command
from mmdiffdet.diffusion.sampling import DiffusionSampler
from mmdiffdet.engine.require_checkpoint import require_checkpoint
from mmdiffdet.errors import nearest, one_line
from mmdiffdet.registry import DATASETS, MODELS, TASK_UTILS


def error_of(call):
    with pytest.raises(Exception) as found:  # noqa: B017, PT011 whichever it is
        call()
    return one_line(found.value)


def said_by(capsys, main, *argv):
    with pytest.raises(SystemExit) as end:
        run_command(main, argv)
    assert end.value.code == 1
    return capsys.readouterr().err


def test_our_own_message_is_all_that_is_said(tmp_path, capsys):
    path = tmp_path / 'none.pth'
    said = said_by(capsys, lambda: require_checkpoint(str(path), 'load_from'))
    assert said.startswith(f'ERROR: load_from: checkpoint {path} does not exist')
    assert '--traceback' not in said and len(said.splitlines()) == 1


def test_the_traceback_is_shown_when_asked_for(capsys):
    def foreign():
        {}['key']

    said = said_by(capsys, foreign)
    assert re.match('ERROR: unexpected error at test_errors.py:[0-9]+: KeyError: key', said)
    assert 'Traceback' not in said
    said = said_by(capsys, foreign, '--traceback')
    assert 'Traceback (most recent call last)' in said and 'ERROR: unexpected' in said


def test_exit_codes_pass():
    run_command(lambda: None, [])
    for code in (0, 3):
        with pytest.raises(SystemExit) as end:
            run_command(lambda code=code: code, [])
        assert end.value.code == code


def test_a_misspelt_option_is_told_with_the_nearest():
    text = error_of(lambda: TASK_UTILS.build(dict(type='DiffusionSampler', stage_per_step=[4])))
    assert "'stage_per_step'. Is it misspelt" in text
    assert "did you mean 'stages_per_step'?" in text


def test_a_wrong_call_of_code_is_no_mistake_in_a_config():
    text = error_of(lambda: DiffusionSampler(stage_per_step=[4, 2]))
    assert text.startswith('unexpected error') and 'misspelt' not in text


def test_the_part_that_was_built_is_named():
    cfg = Config(dict(model=dict(backbone=dict(type='mmdet.ResNet', depth=17))))

    def build(cfg):
        MODELS.build(cfg.model.backbone)

    assert error_of(lambda: build(cfg)) == (
        'model.backbone (mmdet.ResNet) of the config: KeyError: invalid depth 17 for resnet'
    )
    cfg.model.backbone.type = 'mmdet.ResNett'
    assert "no model 'mmdet.ResNett'" in error_of(lambda: build(cfg))


@pytest.mark.parametrize('workers', [0, 1])
def test_the_step_of_a_pipeline_is_named_also_from_a_worker(tmp_path, workers):
    root = write_coco(tmp_path / 'data', 2)
    cfg = runner_config(root, tmp_path)
    pipeline = cfg.test_dataloader.dataset.pipeline
    pipeline[1].scale = (0, 0)  # which no image can have
    init_default_scope('mmdiffdet')
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    loader = DataLoader(dataset, num_workers=workers, collate_fn=list)
    text = error_of(lambda: next(iter(loader)))
    assert 'step Resize of a data pipeline' in text
    assert 'Traceback' not in text and len(text.splitlines()) == 1
    if not workers:
        assert str(root / 'images') in text


def test_a_file_that_is_missing_in_a_worker_is_named(tmp_path):
    root = write_coco(tmp_path / 'data', 2)
    cfg = runner_config(root, tmp_path)
    init_default_scope('mmdiffdet')
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    (root / 'images/0.png').unlink()
    text = error_of(lambda: next(iter(DataLoader(dataset, num_workers=1, collate_fn=list))))
    assert '0.png' in text and 'Traceback' not in text


def test_the_metric_is_named(tmp_path):
    cfg = runner_config(write_coco(tmp_path / 'data', 2), tmp_path)
    metric = Runner.from_cfg(cfg).test_loop.evaluator.metrics[0]
    metric.results = [(dict(img_id=0), dict(bboxes=np.zeros((1, 4))))]
    assert error_of(lambda: metric.compute_metrics(metric.results)).startswith('metric CocoMetric')


def test_a_missing_package_is_told_with_its_way_out():
    def build():
        exec(compile('raise ImportError("no module wandb")', 'elsewhere.py', 'exec'))

    assert 'pip install wandb, or take WandbVisBackend out' in error_of(build)


def test_nearest():
    assert nearest('optim_wraper', ['optim_wrapper', 'model']) == "; did you mean 'optim_wrapper'?"
    assert nearest('zzz', ['optim_wrapper']) == ''


_HELP = """
import contextlib, io, runpy, sys, time
for tool in sys.argv[1:]:
    sys.argv = [tool, '--help']
    begun = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()) as said:
        try:
            runpy.run_path(tool, run_name='__main__')
        except SystemExit as end:
            assert not end.code, (tool, end.code)
    assert said.getvalue().startswith('usage: '), tool
    assert '--traceback' in said.getvalue(), tool
    heavy = {'torch', 'mmengine', 'mmdet', 'pandas', 'scipy'} & set(sys.modules)
    assert not heavy, (tool, heavy)
    print(tool, round(time.perf_counter() - begun, 2))
"""
# imported before the arguments are read
_SLOW = {'result_page', 'summarize'}


def test_help_imports_nothing_heavy():
    """So that it takes a fraction of a second, whatever the machine does."""
    tools = [str(p) for p in sorted(Path(ROOT, 'tools').rglob('*.py')) if p.stem not in _SLOW]
    result = subprocess.run(
        [sys.executable, '-c', _HELP, *tools], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert len(result.stdout.splitlines()) == len(tools) > 10


_TALKS = """
import sys
from mmdiffdet.command import run_command
run_command(lambda: %s)
"""


@pytest.mark.parametrize(
    'talk, code',
    [
        ("print('x' * 10**6)", 141),  # fails in main
        ("print('x')", 141),  # in its last flush
        ("print('x') or sys.exit(3)", 141),
        ("open('/dev/full', 'w').write('x' * 10**6)", 1),
    ],
)
def test_a_closed_pipe_ends_silently(talk, code):
    """As with ``| head``; a disk that is full does not."""
    process = subprocess.Popen(
        [sys.executable, '-c', _TALKS % talk],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.close()
    said = process.stderr.read()
    assert process.wait() == code
    assert (said == '') == (code == 141), said


def test_memory_of_a_gpu_names_what_needs_less(capsys):
    def main():
        raise_out_of_memory()

    with pytest.raises(SystemExit) as end:
        run_command(main, [])
    assert end.value.code == 1
    told = capsys.readouterr().err
    assert told.count('\n') == 1 and 'Tried to allocate 20.00 MiB' in told
    for option in ('batch_size', '--amp', 'with_cp', 'images_per_pass', 'num_proposals'):
        assert option in told


def raise_out_of_memory():
    error = torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has')
    exec('raise error', dict(error=error))  # as PyTorch does, not a line of ours
