"""Making a deliverable, the folder that says what a result rests on."""

import json
import platform
import shutil
from pathlib import Path
from typing import Dict, List, Sequence

import numpy as np

from ..utils import atomic_folder
from .experiments import Experiment
from .hashing import sha256_of_file, sha256s_of_tests
from .ledger import write_rows
from .problems import contradicts_itself
from .protocol import NOT_AVAILABLE, PROTOCOL_FIELDS
from .reader import rows_of, where
from .row import Row

RUNS = 'runs.tsv'
MANIFEST = 'manifest.tsv'
ENVIRONMENT = 'environment.json'
SUMS = 'SHA256SUMS'
MANIFEST_COLUMNS = (
    *('exp_name', 'train_seed', 'eval_seeds', 'n', 'AP_mean', 'AP_std', 'checkpoint'),
    *('checkpoint_sha256', 'config', 'config_sha256', *PROTOCOL_FIELDS),
)
VERSIONS = ('torch', 'mmdet', 'diffusers', 'mmdiffdet')


def freeze(experiments: Sequence[Experiment], folder: Path) -> str:
    """Write a deliverable.

    ``runs.tsv`` holds all rows, and ``manifest.tsv`` a line for each model
    (experiment, train seed and protocol). ``configs/`` holds the resolved config that
    each was tested with, taken from ``config.py`` in the rows' ``out_dir``.
    ``environment.json`` names the devices and versions of the rows and of this
    machine, and ``SHA256SUMS`` the hash of each of these files. Checkpoints are not
    copied; their hashes are in the manifest.

    Args:
        experiments (Sequence[Experiment]): What to freeze.
        folder (Path): The folder to make. It appears only when it is complete.

    Returns:
        str: The SHA-256 of ``SHA256SUMS``, which stands for the whole folder.

    Raises:
        FileExistsError: If the folder exists.
        FileNotFoundError: If checkpoints or configs do not exist; all are named.
        ValueError: If rows are not ours or contradict each other, or if a checkpoint
            or config is not the one that was tested.
    """
    if folder.exists():
        raise FileExistsError(
            f'{folder} exists; a deliverable is never changed, choose another name'
        )
    models = models_of(_rows(experiments))
    _check_files(models)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(folder) as temporary:
        _write(models, temporary)
    return sha256_of_file(folder / SUMS)


def models_of(rows: Sequence[Row]) -> List[List[Row]]:
    """Return the rows of each tested model, in the order of the rows."""
    models: Dict[tuple, List[Row]] = {}
    for row in rows:
        # a test of the model, whatever the eval seed
        key = (row.exp_name, row.train_seed, *row.key[:-1])
        models.setdefault(key, []).append(row)
    return list(models.values())


def manifest_of(models: Sequence[Sequence[Row]]) -> List[Dict[str, str]]:
    """Return the lines of the manifest, one for each model."""
    lines = []
    for number, rows in enumerate(models):
        values = np.array([row.AP for row in rows])
        line = dict(
            eval_seeds=','.join(str(row.eval_seed) for row in rows),
            n=str(len(rows)),
            AP_mean=f'{values.mean():.6f}',
            AP_std=f'{values.std():.6f}' if len(rows) > 1 else NOT_AVAILABLE,
            config=f'configs/{number:03d}.py',
        )
        for name in MANIFEST_COLUMNS:
            value = getattr(rows[0], name, None)
            line.setdefault(name, NOT_AVAILABLE if value is None else str(value))
        lines.append({name: line[name] for name in MANIFEST_COLUMNS})
    return lines


def _rows(experiments: Sequence[Experiment]) -> List[Row]:
    rows: Dict[tuple, Row] = {}
    for experiment in experiments:
        for problem in contradicts_itself(experiment):
            raise ValueError(f'cannot freeze: {problem}')
        for run in experiment.runs[~experiment.runs.is_row.astype(bool)].itertuples():
            raise ValueError(
                f'cannot freeze {where(run)}: it is no row of a ledger of '
                'ours, so it does not say what it rests on; test the '
                'checkpoint again with tools/test.py'
            )
        for row in rows_of(experiment.runs):
            rows.setdefault(row.key, row)
    if not rows:
        raise ValueError('cannot freeze: there are no rows')
    return list(rows.values())


def _check_files(models: Sequence[Sequence[Row]]) -> None:
    missing = []
    for row, *_ in models:
        checkpoint = Path(row.checkpoint)
        if not checkpoint.is_file():
            missing.append(str(checkpoint))
        elif sha256_of_file(checkpoint) != row.checkpoint_sha256:
            raise ValueError(
                f'cannot freeze: {checkpoint} is not the file that was '
                f'tested; its SHA-256 is not {row.checkpoint_sha256}'
            )
        if not _config_of(row).is_file():
            missing.append(str(_config_of(row)))
        else:
            for problem in config_problems(row, _config_of(row)):
                raise ValueError(f'cannot freeze: {problem}')
    if missing:
        raise FileNotFoundError(
            'cannot freeze, these files are missing: ' + ', '.join(dict.fromkeys(missing))
        )


def config_problems(row: Row, path: Path) -> List[str]:
    """Return a sentence if a file is not the config of a row's test, or none."""
    try:
        if row.config_sha256 in sha256s_of_tests(path.read_text(encoding='utf-8')):
            return []
    except ValueError as error:
        return [f'{path} {error}']
    return [
        f'{path} is not the config that was tested: its model and test settings have not the '
        f'config_sha256 of the row, {row.config_sha256} (mmdiffdet {row.mmdiffdet}); put the one '
        'that was tested back, or test again'
    ]


def _config_of(row: Row) -> Path:
    return Path(row.out_dir) / 'config.py'


def _write(models: Sequence[Sequence[Row]], folder: Path) -> None:
    (folder / 'configs').mkdir()
    manifest = manifest_of(models)
    for rows, line in zip(models, manifest):
        shutil.copyfile(_config_of(rows[0]), folder / line['config'])
    text = ''.join('\t'.join(cells) + '\n' for cells in map(dict.values, manifest))
    (folder / MANIFEST).write_text('\t'.join(MANIFEST_COLUMNS) + '\n' + text, encoding='utf-8')
    every = [row for rows in models for row in rows]
    write_rows(folder / RUNS, every)
    environment = dict(
        devices=sorted({row.device for row in every}),
        **{k: sorted({getattr(row, k) for row in every}) for k in VERSIONS},
        frozen_with=dict(python=platform.python_version(), platform=platform.platform()),
    )
    (folder / ENVIRONMENT).write_text(json.dumps(environment, indent=2) + '\n')
    files = sorted(p for p in folder.rglob('*') if p.is_file())
    (folder / SUMS).write_text(
        ''.join(f'{sha256_of_file(p)}  {p.relative_to(folder).as_posix()}\n' for p in files)
    )
