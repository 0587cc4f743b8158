"""Read ledgers of ours and the tables of the Detectron2 system."""

import math
import os
import re
from pathlib import Path
from typing import Dict, Iterable, List, Optional, Set, Tuple, Union

from .ledger import Ledger, is_ledger, read_lines
from .protocol import NOT_AVAILABLE, PROTOCOL_FIELDS, Protocol
from .row import METRICS, parse_metric
from .runs import Results, Run, Stated, Variant

MANIFEST_MARK = 'experiment\t'
"""How the header of an index begins; a folder's index is passed over."""

STATED_COLUMNS = {'mean_AP', 'std_AP_pop', 'results_tsv'}
RUN_COLUMNS = {
    'exp_name',
    'train_seed',
    'eval_seed',
    'ckpt_path',
    'ckpt_sha256',
    'config_file',
    'inference_s_per_img',
    'inference_fps',
    'out_dir',
    *METRICS,
    *PROTOCOL_FIELDS,
}
"""Columns that describe a run; any other one names a variant."""


def read_results(paths: Iterable[Union[str, os.PathLike]]) -> Results:
    """Read files, and the TSV files of folders.

    Args:
        paths (Iterable[str | os.PathLike]): Files and folders. A file that
            is given twice is read once.

    Raises:
        FileNotFoundError: If there is no such path or no TSV in a folder.
        ValueError: If a file is no table of results, or a line of it does
            not parse.
    """
    runs, stated, seen = [], [], set()
    for path, in_folder in _files(paths):
        if path.resolve() in seen:
            continue
        seen.add(path.resolve())
        header = read_lines(path)[0]
        if is_ledger(header):
            rows = enumerate(Ledger(path).read(), 2)
            runs += [Run.of_row(row, path, line) for line, row in rows]
        elif not (in_folder and header.startswith(MANIFEST_MARK)):
            more_runs, more_stated = _read_seed_table(path)
            runs += more_runs
            stated += more_stated
    return Results(tuple(runs), tuple(stated))


def _files(paths: Iterable) -> List[Tuple[Path, bool]]:
    files = []
    for path in map(Path, paths):
        if not path.is_dir():
            files.append((path, False))
            continue
        tables = [p for p in sorted(path.glob('*.tsv')) if not p.name.startswith('.')]
        if not tables:
            raise FileNotFoundError(
                f'{path} holds no .tsv file; folders in it are not searched, name them'
            )
        files += [(table, True) for table in tables]
    return files


def _read_seed_table(path: Path) -> Tuple[List[Run], List[Stated]]:
    """A table whose columns vary; see the module's sets for their names.

    An experiment is a table, split by its variant columns. It is split by
    exp_name too, unless each train seed has one name only: a table merged
    by its owner from one checkpoint a train seed.
    """
    lines = read_lines(path)
    header = lines[0].split('\t')
    is_stated = STATED_COLUMNS <= set(header)
    if not is_stated and not {'eval_seed', 'AP'} <= set(header):
        raise ValueError(
            f'{path}:1: not a table of results; it needs the columns '
            'eval_seed and AP (a run a line) or mean_AP, std_AP_pop and '
            f'results_tsv (a summary), and has {", ".join(header)}'
        )
    rows = []
    for number, line in enumerate(lines[1:], 2):
        cells = line.split('\t')
        if len(cells) != len(header):
            raise ValueError(f'{path}:{number}: has {len(cells)} columns instead of {len(header)}')
        rows.append((number, dict(zip(header, cells))))
    if is_stated:
        return [], [_parse(path, n, row, _stated) for n, row in rows]
    variants = [name for name in header if name not in RUN_COLUMNS]
    names: Dict[str, Set[str]] = {}
    for _, row in rows:
        names.setdefault(row.get('train_seed', ''), set()).add(row.get('exp_name', ''))
    if any(len(of_seed) > 1 for of_seed in names.values()):
        variants.append('exp_name')
    return [_parse(path, n, row, _run, variants=variants) for n, row in rows], []


def _parse(path, number, row, parse, **kwargs):
    try:
        return parse(path, number, row, **kwargs)
    except ValueError as error:
        raise ValueError(f'{path}:{number}: {error}') from None


def _stated(path: Path, number: int, row: Dict[str, str]) -> Stated:
    mean, std = _number(row, 'mean_AP'), _number(row, 'std_AP_pop')
    if mean is None or std is None:
        raise ValueError('mean_AP and std_AP_pop must be given')
    variant = tuple((k, v) for k, v in row.items() if k not in STATED_COLUMNS)
    protocol = Protocol(sample_step=_from_name(path.stem, 'step'))
    return Stated(path, number, _name(path), variant, protocol, mean, std, row['results_tsv'])


def _run(path: Path, number: int, row: Dict[str, str], variants: List[str]) -> Run:
    variant: Variant = tuple((k, row[k]) for k in variants)
    step = _agree('sample_step', _integer(row, 'sample_step'), _from_name(path.stem, 'step'))
    seed = _agree(
        'train_seed',
        _integer(row, 'train_seed'),
        _from_name(row.get('exp_name') or path.stem, 'seed'),
    )
    protocol = {k: _text(row, k) for k in PROTOCOL_FIELDS}
    protocol.update(sample_step=step, eta=_number(row, 'eta'))
    metrics = {}
    for name in METRICS:
        try:
            metrics[name] = parse_metric(row.get(name))
        except ValueError as error:
            raise ValueError(f'{name} {error}') from None
    eval_seed = _integer(row, 'eval_seed')
    if eval_seed is None:
        raise ValueError('eval_seed is missing')
    return Run(
        source=path,
        line=number,
        experiment=_name(path),
        exp_name=_text(row, 'exp_name'),
        variant=variant,
        protocol=Protocol(**protocol),
        train_seed=seed,
        eval_seed=eval_seed,
        checkpoint=_text(row, 'ckpt_path'),
        checkpoint_sha256=_text(row, 'ckpt_sha256'),
        config=_text(row, 'config_file'),
        config_sha256=None,
        metrics=metrics,
        seconds_per_image=_number(row, 'inference_s_per_img'),
        device=None,
    )


def _name(path: Path) -> str:
    return path.stem.removesuffix('_results')


def _from_name(name: str, what: str) -> Optional[int]:
    """3 from ``..._seed3_...``; ``seed0warmstart`` is another word."""
    found = set(re.findall(rf'(?:^|_){what}(\d+)(?=_|$)', name))
    return int(found.pop()) if len(found) == 1 else None


def _agree(name: str, column: Optional[int], file_name: Optional[int]) -> Optional[int]:
    if None not in (column, file_name) and column != file_name:
        raise ValueError(
            f'{name} is {column} in its column and {file_name} '
            "in the experiment's name; correct one"
        )
    return file_name if column is None else column


def _integer(row: Dict[str, str], name: str) -> Optional[int]:
    return _convert(row, name, int)


def _number(row: Dict[str, str], name: str) -> Optional[float]:
    return _convert(row, name, float)


def _convert(row, name, kind):
    text = _text(row, name)
    if text is None:
        return None
    try:
        number = kind(text)
    except ValueError:
        raise ValueError(f'{name} must be a number, got {text!r}') from None
    if not math.isfinite(number):
        raise ValueError(f'{name} must be finite, got {text!r}')
    return number


def _text(row: Dict[str, str], name: str) -> Optional[str]:
    text = row.get(name)
    return None if text in ('', NOT_AVAILABLE, 'nan') else text
