"""The ledger, the file that every test appends its results to."""

import os
import re
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, NamedTuple, Sequence, Tuple, Union

from filelock import FileLock, Timeout

from ..utils import atomic_path
from .row import COLUMNS, Row, RunKey

PATIENCE = 10.0
"""Seconds to wait for the lock before that is told."""


class Appended(NamedTuple):
    """The rows that :meth:`Ledger.append` wrote, and those that were there already."""

    written: List[Row]
    skipped: List[Row]


class Ledger:
    """A TSV file of :class:`Row` that several processes may append to at once.

    Writers queue at a lock on the side file ``<path>.lock``; one that waits for more
    than ten seconds says so. The table is written to a temporary file that replaces
    it, so that neither a reader nor a process that dies ever leaves half of it. A
    symbolic link stands for the file that it leads to.

    Args:
        path (str | os.PathLike): The file of the ledger. It is created, with its
            folder, when the first row is appended.
    """

    def __init__(self, path: Union[str, os.PathLike]) -> None:
        self.path = Path(path)

    def read(self) -> List[Row]:
        """Return all rows, or none if the file does not exist yet.

        Raises:
            ValueError: If the file is not a ledger or a line does not parse.
        """
        try:
            lines = read_lines(self.path)
        except FileNotFoundError:
            return []
        if not is_ledger(lines[0]):
            raise ValueError(f'{self.path}:1: {not_a_ledger(lines[0])}. Append to another file')
        return [row for _, row in parse_rows(self.path, lines)]

    def find(self, keys: Iterable[RunKey]) -> Dict[RunKey, Row]:
        """Return the rows of those of these tests that are there already."""
        keys = set(keys)
        return {row.key: row for row in self.read() if row.key in keys}

    def append(self, rows: Iterable[Row], force: bool = False) -> Appended:
        """Add rows, all of them or none.

        Args:
            rows (Iterable[Row]): The results. Rows of a test that is there already
                are skipped.
            force (bool): Whether to replace the rows of such tests instead.

        Raises:
            ValueError: If the file is not a ledger, which is left alone.
        """
        done = Appended([], [])
        with self._locked() as path:
            # a file put together by hand may hold a test twice
            table: Dict[RunKey, List[Row]] = {}
            for row in self.read():
                table.setdefault(row.key, []).append(row)
            for row in rows:
                if row.key in table and not force:
                    done.skipped.append(row)
                else:
                    table[row.key] = [row]
                    done.written.append(row)
            if done.written:
                write_rows(path, [row for same in table.values() for row in same])
        return done

    @contextmanager
    def _locked(self) -> Iterator[Path]:
        path = Path(os.path.realpath(self.path))
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f'{path}.lock')
        try:
            held = lock.acquire(timeout=PATIENCE)
        except Timeout:
            warnings.warn(
                f'waiting for {path}.lock, which another process holds while it writes {path}; if '
                'that takes longer, end that process, and this one goes on',
                stacklevel=4,
            )
            held = lock.acquire()
        with held:
            # of a writer that was killed: nobody else writes now
            left = re.compile(rf'\.{re.escape(path.stem)}-\w{{8}}{re.escape(path.suffix)}')
            for other in path.parent.iterdir():
                if left.fullmatch(other.name):
                    other.unlink()
            yield path


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write a whole ledger, which replaces the file only when it is complete."""
    with atomic_path(path) as temporary, open(temporary, 'w', encoding='utf-8') as file:
        file.write('\t'.join(COLUMNS) + '\n')
        for row in rows:
            file.write('\t'.join(row.cells()) + '\n')
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path) -> List[str]:
    """Read the lines of a text file without their ends and a byte order mark.

    Raises:
        ValueError: If the path is no regular file or does not hold UTF-8.
    """
    if path.exists() and not path.is_file():
        raise ValueError(f'{path}: not a regular file')
    try:
        text = path.read_text(encoding='utf-8-sig')
    except UnicodeDecodeError as error:
        raise ValueError(f'{path}: not UTF-8 text: {error}') from None
    return text.removesuffix('\n').split('\n')


def is_ledger(header: str) -> bool:
    """Whether a file with this first line has the columns of :class:`Row`, but
    perhaps for the version, which older ledgers do not have."""
    return tuple(header.split('\t')) in (COLUMNS, COLUMNS[:-1])


def not_a_ledger(header: str) -> str:
    """Say what sets the columns of a file apart from those of a ledger."""
    columns = header.split('\t')
    missing = [c for c in COLUMNS[:-1] if c not in columns]
    unknown = [c for c in dict.fromkeys(columns) if c not in COLUMNS]
    if len(missing) > len(COLUMNS) / 2:
        return f'not a ledger of this version; its columns must be {" ".join(COLUMNS)}'
    differs = [f'missing: {", ".join(map(repr, missing))}'] * bool(missing)
    differs += [f'unknown: {", ".join(map(repr, unknown))}'] * bool(unknown)
    differs = differs or ['in another order or twice']
    return f'not a ledger of this version; columns {"; ".join(differs)}'


def parse_rows(path: Path, lines: Sequence[str]) -> Iterator[Tuple[int, Row]]:
    """Yield each row of a ledger with the number of its line, which begins at 2.

    Raises:
        ValueError: If a line does not parse. File and line are named.
    """
    count = len(lines[0].split('\t'))
    for number, line in enumerate(lines[1:], 2):
        cells = line.split('\t')
        try:
            if len(cells) != count:
                raise ValueError(f'has {len(cells)} columns instead of {count}')
            yield number, Row.from_cells(cells)
        except ValueError as error:
            raise ValueError(f'{path}:{number}: {error}') from None
