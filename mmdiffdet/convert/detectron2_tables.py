"""Tables of results of the Detectron2 system, as records of runs.

They have no version: a table is recognised by its columns alone, and a column that
is not known makes it another table.
"""

import math
import re
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

from ..ledger.protocol import NOT_AVAILABLE
from ..ledger.reader import Records
from ..ledger.row import CONTROL, METRICS, parse_metric

STATED = ('mean_AP', 'std_AP_pop', 'results_tsv')
"""Columns of a table of means without their runs."""
RUN = ('eval_seed', *METRICS, 'out_dir')
"""Columns of every table of runs."""
OF_RUN = ('train_seed', 'sample_step')
TOGETHER = (
    ('exp_name',),
    ('ckpt_path', 'ckpt_sha256', 'config_file'),
    ('inference_s_per_img', 'inference_fps'),
)
"""Columns that a table of runs has or has not, as a set."""
VARIANTS = ('variant', 'mode', 'langevin_steps', 'scale', 'max_iter', 'geo_feat_lr_mult')
"""Columns whose values set apart the experiments of one table."""
STATED_VARIANTS = ('GEO_FEAT_LR_MULT',)
_Row = Dict[str, str]


def read_detectron2_table(path: Path, lines: List[str]) -> Optional[Tuple[Records, Records]]:
    """Records of runs and of stated means of a file; None if its columns are others.

    An experiment is a table, split by its variant columns. It is split by
    exp_name too, unless each train seed has one name only: a table merged
    by its owner from one checkpoint a train seed. Steps and train seed are
    taken from the file's name where no column has them. ValueError names the file
    and the line that does not parse.
    """
    header = lines[0].split('\t')
    is_stated = set(STATED) <= set(header) <= {*STATED, *STATED_VARIANTS}
    if len(set(header)) < len(header) or not (is_stated or _is_table_of_runs(set(header))):
        return None
    rows = []
    for number, line in enumerate(lines[1:], 2):
        cells = line.split('\t')
        if len(cells) != len(header):
            raise ValueError(f'{path}:{number}: has {len(cells)} columns instead of {len(header)}')
        for name, cell in zip(header, cells):
            if CONTROL.search(cell):
                raise ValueError(f'{path}:{number}: {name} holds a control character: {cell!r}')
        rows.append((number, dict(zip(header, cells))))
    if is_stated:
        return [], [_parse(path, n, row, _stated) for n, row in rows]
    variants = [name for name in header if name in VARIANTS]
    names: Dict[str, set] = {}
    for _, row in rows:
        names.setdefault(row.get('train_seed', ''), set()).add(row.get('exp_name', ''))
    if any(len(of_seed) > 1 for of_seed in names.values()):
        variants.append('exp_name')
    return [_parse(path, n, row, _run, variants) for n, row in rows], []


def _is_table_of_runs(columns: set) -> bool:
    known = {*RUN, *OF_RUN, *VARIANTS, *(c for together in TOGETHER for c in together)}
    whole = all(len(columns & set(together)) in (0, len(together)) for together in TOGETHER)
    return set(RUN) <= columns <= known and whole


def _parse(path: Path, number: int, row: _Row, parse: Callable, *args: Any) -> Dict[str, Any]:
    try:
        return dict(parse(path, row, *args), source=path, line=number, experiment=_name(path))
    except ValueError as error:
        raise ValueError(f'{path}:{number}: {error}') from None


def _stated(path: Path, row: _Row) -> Dict[str, Any]:
    mean, std = _number(row, 'mean_AP'), _number(row, 'std_AP_pop')
    if mean is None or std is None:
        raise ValueError('mean_AP and std_AP_pop must be given')
    return dict(
        variant=tuple((k, v) for k, v in row.items() if k not in STATED),
        sample_step=_from_name(path.stem, 'step'),
        mean=mean,
        std=std,
        runs_file=row['results_tsv'],
    )


def _run(path: Path, row: _Row, variants: List[str]) -> Dict[str, Any]:
    steps = _agree('sample_step', _integer(row, 'sample_step'), _from_name(path.stem, 'step'))
    seed = _agree(
        'train_seed',
        _integer(row, 'train_seed'),
        _from_name(row.get('exp_name') or path.stem, 'seed'),
    )
    metrics = {}
    for name in METRICS:
        try:
            metrics[name] = parse_metric(row.get(name))
        except ValueError as error:
            raise ValueError(f'{name} {error}') from None
    eval_seed = _integer(row, 'eval_seed')
    if eval_seed is None:
        raise ValueError('eval_seed is missing')
    return dict(
        exp_name=_text(row, 'exp_name'),
        train_seed=seed,
        eval_seed=eval_seed,
        checkpoint=_text(row, 'ckpt_path'),
        checkpoint_sha256=_text(row, 'ckpt_sha256'),
        config=_text(row, 'config_file'),
        sample_step=steps,
        **metrics,
        seconds_per_image=_number(row, 'inference_s_per_img'),
        variant=tuple((k, row[k]) for k in variants),
        is_row=False,
    )


def _name(path: Path) -> str:
    return path.stem.removesuffix('_results')


def _from_name(name: str, what: str) -> Optional[int]:
    """3 from ``..._seed3_...``; ``seed0warmstart`` is another word."""
    found = set(re.findall(rf'(?:^|_){what}(\d{{1,18}})(?=_|$)', name))
    return int(found.pop()) if len(found) == 1 else None


def _agree(name: str, column: Optional[int], file_name: Optional[int]) -> Optional[int]:
    if None not in (column, file_name) and column != file_name:
        raise ValueError(
            f'{name} is {column} in its column and {file_name} '
            "in the experiment's name; correct one"
        )
    return file_name if column is None else column


def _integer(row: _Row, name: str) -> Optional[int]:
    number = _convert(row, name, int)
    if number is not None and not 0 <= number < 2**63:
        raise ValueError(f'{name} must be from 0 to 2**63 - 1, got {number}')
    return number


def _number(row: _Row, name: str) -> Optional[float]:
    return _convert(row, name, float)


def _convert(row: _Row, name: str, kind: Callable) -> Any:
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


def _text(row: _Row, name: str) -> Optional[str]:
    text = row.get(name)
    return None if text in ('', NOT_AVAILABLE, 'nan') else text
