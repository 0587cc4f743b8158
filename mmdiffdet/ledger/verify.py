"""Checking a deliverable against its files, and testing some of it again."""

import subprocess
import tempfile
from itertools import zip_longest
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence

from .freeze import (
    MANIFEST,
    MANIFEST_COLUMNS,
    RUNS,
    SUMS,
    VERSIONS,
    config_problems,
    manifest_of,
    models_of,
)
from .hashing import sha256_of_file
from .ledger import Ledger, read_lines
from .row import Row


class Verification(NamedTuple):
    """The problems that were found, a sentence each, the SHA-256 of ``SHA256SUMS``,
    and what was checked."""

    problems: List[str]
    digest: str
    checked: List[str]


def verify(
    folder: Path,
    rerun: int = 0,
    test_command: Sequence[str] = (),
    checkpoints: Optional[Path] = None,
    digest: Optional[str] = None,
    tolerance: float = 0.1,
) -> Verification:
    """Check every hash, the manifest and configs against the runs, and rerun tests.

    A rerun calls ``test_command CONFIG CHECKPOINT --eval-seeds S --steps N --ledger
    TEMPORARY.tsv --work-dir TEMPORARY``, which must append the row of this test to
    the ledger. Its metrics must be equal to the last digit if device and versions
    are. Elsewhere they may differ by ``tolerance``.

    Args:
        folder (Path): The deliverable.
        rerun (int): The number of rows to rerun, spread over the models.
        test_command (Sequence[str]): The command that starts a test.
        checkpoints (Path, optional): The folder to look for the checkpoints in, by
            their file names. By default they are where they were tested.
        digest (str, optional): The SHA-256 that ``SHA256SUMS`` must have. Without it,
            somebody who changes a number and all sums is not found out.
        tolerance (float): The allowed difference in points of AP.

    Raises:
        FileNotFoundError: If the folder is no deliverable.
    """
    sums = folder / SUMS
    if not sums.is_file():
        raise FileNotFoundError(f'{folder} is no deliverable: it has no {SUMS}')
    found = sha256_of_file(sums)
    problems, checked = [], []
    if digest is not None and digest != found:
        problems.append(f'{sums} has SHA-256 {found} instead of {digest}')
    files = list(_check_sums(folder))
    problems += [problem for problem in files if problem]
    checked.append(f'{len(files)} files')
    try:
        rows = Ledger(folder / RUNS).read()
        manifest = read_lines(folder / MANIFEST)
    except (FileNotFoundError, ValueError) as error:
        return Verification([*problems, str(error)], found, checked)
    models = models_of(rows)
    lines = manifest_of(models)
    problems += _check_manifest(lines, manifest[1:], folder / MANIFEST)
    checked.append(f'{len(rows)} rows of {len(models)} models')
    for (row, *_), line in zip(models, lines):
        path = folder / line['config']
        problems += config_problems(row, path) if path.is_file() else ()  # missing is told above
    paths = {row.checkpoint_sha256: Path(row.checkpoint) for row, *_ in models}
    if checkpoints is not None:
        paths = {sha: checkpoints / path.name for sha, path in paths.items()}
    for sha, path in paths.items():
        if not path.is_file():
            problems.append(f'checkpoint {path} is missing')
        elif sha256_of_file(path) != sha:
            problems.append(f'checkpoint {path} has changed: its SHA-256 is not {sha}')
    checked.append(f'{len(paths)} checkpoints')
    if rerun and problems:
        problems.append('nothing was rerun, because of what is said above')
    elif rerun:
        tests = [[(row, line['config']) for row in rows] for rows, line in zip(models, lines)]
        # the first row of each model, then the second ones, and so on
        turns = [test for turn in zip_longest(*tests) for test in turn if test][:rerun]
        for row, config in turns:
            command = [*test_command, str(folder / config), str(paths[row.checkpoint_sha256])]
            problems += _rerun(row, command, tolerance)
        checked.append(f'{len(turns)} reruns')
    return Verification(problems, found, checked)


def _check_sums(folder: Path) -> Iterator[Optional[str]]:
    """Yield a problem, or None, for each file that is listed or there."""
    listed = {}
    for line in read_lines(folder / SUMS):
        sha, _, name = line.partition('  ')
        listed[name] = sha
    there = {p.relative_to(folder).as_posix() for p in folder.rglob('*') if p.is_file()} - {SUMS}
    for path in sorted(folder.rglob('*')):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            yield f'{path} is a link or a special file, which no deliverable has'
        elif path.is_dir() and not any(path.iterdir()):
            yield f'{path} is an empty folder, which no deliverable has'
    for name in sorted(there | set(listed)):
        if name not in there:
            yield f'{folder / name} is missing'
        elif name not in listed:
            yield f'{folder / name} is not listed in {SUMS}'
        elif sha256_of_file(folder / name) != listed[name]:
            yield f'{folder / name} has changed: its SHA-256 is not that of {SUMS}'
        else:
            yield None


def _check_manifest(
    expected: Sequence[Dict[str, str]], lines: Sequence[str], path: Path
) -> Iterator[str]:
    for number, (should, line) in enumerate(zip_longest(expected, lines), 2):
        has = (line or '').split('\t')
        if len(has) != len(MANIFEST_COLUMNS):
            yield f'{path}:{number}: the line of a model is missing or broken'
        elif should is None:
            yield f'{path}:{number}: {RUNS} holds no run of this model'
        else:
            for (name, a), b in zip(should.items(), has):
                if a != b:
                    yield f'{path}:{number}: {name} is {b}, the runs in {RUNS} give {a}'


def _rerun(row: Row, command: Sequence[str], tolerance: float) -> Iterable[str]:
    what = f'rerun of {row.exp_name}, train seed {row.train_seed}, eval seed {row.eval_seed}'
    with tempfile.TemporaryDirectory() as temporary:
        ledger = Path(temporary) / 'ledger.tsv'
        options = ['--eval-seeds', row.eval_seed, '--steps', row.sample_step]
        options += ['--ledger', ledger, '--work-dir', temporary]
        command = [*command, *map(str, options)]
        status = subprocess.run(command).returncode
        if status:
            return [f'{what}: {" ".join(command)} failed with status {status}']
        results = Ledger(ledger).read()
    found = [r for r in results if r.key == row.key]
    if not found:
        keys = '; '.join(
            f'{r.protocol}, config {r.config_sha256[:8]}, eval seed {r.eval_seed}' for r in results
        )
        return [
            f'{what}: gave no result of its protocol ({row.protocol}, '
            f'config {row.config_sha256[:8]}), but: {keys or "nothing"}'
        ]
    return _compare(row, found[0], what, tolerance)


def _compare(row: Row, again: Row, what: str, tolerance: float) -> Iterable[str]:
    same = all(getattr(row, k) == getattr(again, k) for k in ('device', *VERSIONS))
    allowed = 0.0 if same else tolerance
    elsewhere = 'the same device and versions' if same else 'another device or other versions'
    for name, value in row.metrics.items():
        other = again.metrics[name]
        if value != other and (None in (value, other) or abs(value - other) > allowed):
            yield (
                f'{what}: {name} is {other} instead of {value}; allowed '
                f'is a difference of {allowed} on {elsewhere}'
            )
