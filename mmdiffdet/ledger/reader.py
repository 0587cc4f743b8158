"""Reading results of ledgers and of other systems' tables into data frames."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple, Union

import numpy as np
import pandas as pd

from .ledger import is_ledger, not_a_ledger, parse_rows, read_lines
from .row import COLUMNS, METRICS, Row

MANIFEST_MARK = 'experiment\t'
"""What the header of an index begins with. A folder's index is passed over."""
_OF_RUN = (*COLUMNS, 'experiment', 'variant', 'source', 'line', 'is_row')
_OF_STATED = ('experiment', 'variant', 'source', 'line', 'sample_step', 'mean', 'std', 'runs_file')
_INTEGERS = ('train_seed', 'eval_seed', 'sample_step')
_FLOATS = (*METRICS, 'eta', 'seconds_per_image')
Records = List[Dict[str, Any]]


class Results(NamedTuple):
    """The runs that were read, and the means that a table states.

    Args:
        runs (DataFrame): A line for each test, with the columns of
            :class:`~mmdiffdet.ledger.Row`; what was not recorded is missing.
            ``experiment`` names what a run is averaged with. ``variant``, pairs of a
            column and its value, sets apart the experiments of one foreign table.
            ``source`` and ``line`` say where the run stands, and ``is_row`` whether
            that is a ledger of ours.
        stated (DataFrame): Means and deviations that a table states of the runs in
            another file, ``runs_file``.
    """

    runs: pd.DataFrame
    stated: pd.DataFrame


ForeignReader = Callable[[Path, List[str]], Optional[Tuple[Records, Records]]]
"""A function of a file and its lines. It returns records of runs and of stated
means, or None if the file is not of its kind."""


def read_results(
    paths: Iterable[Union[str, os.PathLike]], foreign: Iterable[ForeignReader] = ()
) -> Results:
    """Read files, and the TSV files of folders.

    Args:
        paths (Iterable[str | os.PathLike]): Files and folders. A file that is given
            twice is read once.
        foreign (Iterable[Callable]): Readers of other systems' tables.

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
        lines = read_lines(path)
        if is_ledger(lines[0]):
            runs += [record_of(row, path, line) for line, row in parse_rows(path, lines)]
        elif not (in_folder and lines[0].startswith(MANIFEST_MARK)):
            found = next(filter(None, (read(path, lines) for read in foreign)), None)
            if found is None:
                raise ValueError(f'{path}:1: not a table of results: {not_a_ledger(lines[0])}')
            runs += found[0]
            stated += found[1]
    return Results(frame_of(runs), pd.DataFrame(stated, columns=_OF_STATED))


def record_of(row: Row, source: Path, line: int) -> Dict[str, Any]:
    """Return a ledger's row as a record for :func:`frame_of`."""
    return dict(
        asdict(row), experiment=row.exp_name, variant=(), source=source, line=line, is_row=True
    )


def frame_of(records: Records) -> pd.DataFrame:
    """Make the frame of runs, see :class:`Results`. A record may lack columns."""
    frame = pd.DataFrame(records, columns=_OF_RUN)
    # integers that may be missing; hashes and names stay as they are
    return frame.astype(dict.fromkeys(_INTEGERS, 'Int64') | dict.fromkeys(_FLOATS, float))


def plain(value: Any) -> Any:
    """Return a cell of a frame as Python's own value, None if it was not recorded."""
    if not isinstance(value, tuple) and pd.isna(value):
        return None
    return value.item() if isinstance(value, np.generic) else value


def where(run: Any) -> str:
    """Return file and line of a run, which is a line of the frame."""
    return f'{run.source}:{run.line}'


def listed(seeds: Iterable[int]) -> str:
    """Return the different seeds as text, such as ``0, 2``, or ``0-4`` for all five."""
    values = sorted(set(seeds))
    if len(values) > 2 and values == [*range(values[0], values[-1] + 1)]:
        return f'{values[0]}-{values[-1]}'
    return ', '.join(map(str, values))


def rows_of(runs: pd.DataFrame) -> Iterator[Row]:
    """Yield the rows that lines of a ledger of ours hold."""
    for values in runs[list(COLUMNS)].itertuples(index=False):
        yield Row(*map(plain, values))


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
