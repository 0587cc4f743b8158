"""Rows, ledgers and the summary that tests share; needs no torch."""

import io
import runpy
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Dict, Iterable, List

import numpy as np
import pytest

from mmdiffdet.convert.detectron2_tables import read_detectron2_table
from mmdiffdet.ledger import Ledger, Row
from mmdiffdet.ledger.experiments import Experiment, group
from mmdiffdet.ledger.reader import Results, frame_of, read_results, record_of

ROOT = Path(__file__).parents[1]

ROW = Row(
    exp_name='base',
    train_seed=0,
    eval_seed=0,
    checkpoint='work_dirs/base/last.pth',
    checkpoint_sha256='a' * 64,
    config='configs/base.py',
    config_sha256='b' * 64,
    dataset='demo',
    annotation_sha256='c' * 64,
    model_family='DiffusionDet',
    sample_step=1,
    scheduler='DDIMScheduler',
    eta=1.0,
    precision='fp32',
    AP=46.1 + 0.2,
    AP50=70.0,
    AP75=50.0,
    APs=float('nan'),
    APm=-1,
    APl=60.25,
    seconds_per_image=0.1,
    images_per_second=10,
    device='Some CPU',
    torch='2.8.0',
    mmdet='3.5.1',
    diffusers='0.36.0',
    mmdiffdet='0.1.0',
    out_dir='work_dirs/base',
)


def ledger_of(path: Path, values: Dict[str, np.ndarray], **columns: object) -> Path:
    """A ledger; values[name][train seed][eval seed] are APs."""
    Ledger(path).append(
        replace(
            ROW,
            exp_name=name,
            train_seed=train,
            eval_seed=seed,
            AP=float(ap),
            checkpoint_sha256=f'{name.encode().hex()}{train}'.zfill(64),
            **columns,
        )
        for name, of_name in values.items()
        for train, of_train in enumerate(of_name)
        for seed, ap in enumerate(of_train)
    )
    return path


def results_of(*paths: Path) -> Results:
    return read_results(paths, [read_detectron2_table])


def experiments_of(*paths: Path) -> List[Experiment]:
    return group(results_of(*paths).runs)


def grouped(rows: Iterable[Row]) -> List[Experiment]:
    """Experiments of rows that no file holds."""
    return group(frame_of([record_of(row, Path('l.tsv'), i) for i, row in enumerate(rows, 2)]))


def table_of(path: Path, runs: str) -> Path:
    """A table of the Detectron2 system from its first columns alone.

    ``runs`` has a header and a run a line, with eval_seed and AP as its last
    two columns; the other metrics are APs = 7 and not available.
    """
    header, *lines = runs.split('\n')
    rest = ['AP50\tAP75\tAPs\tAPm\tAPl\tout_dir', *['nan\tnan\t7\tnan\tnan\tout'] * len(lines)]
    path.write_text('\n'.join('\t'.join(pair) for pair in zip([header, *lines], rest)) + '\n')
    return path


def two(path: Path, a: Iterable, b: Iterable) -> List[Experiment]:
    return experiments_of(ledger_of(path / 'l.tsv', dict(a=a, b=b)))


def summarize(*args: object) -> subprocess.CompletedProcess:
    """The tool in this process, as importing scipy takes long."""
    out, err = io.StringIO(), io.StringIO()
    argv = ['summarize.py', *map(str, args)]
    with (
        redirect_stdout(out),
        redirect_stderr(err),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(sys, 'argv', argv)
        code = 0
        try:
            runpy.run_path(str(ROOT / 'tools/summarize.py'), run_name='__main__')
        except SystemExit as end:
            code = end.code
    return subprocess.CompletedProcess(argv, code, out.getvalue(), err.getvalue())
