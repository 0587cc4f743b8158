"""The file that every test appends to."""

import os
from contextlib import contextmanager
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, NamedTuple, Union

from filelock import FileLock

from ..utils import atomic_path
from .row import COLUMNS, Row, RunKey


class Appended(NamedTuple):
    """What :meth:`Ledger.append` did with the rows."""

    written: List[Row]
    skipped: List[Row]


class Ledger:
    """A TSV of :class:`Row`, safe with several processes at once.

    Writers queue at a lock on the side file ``<path>.lock``; the table is
    written to a temporary file that replaces it, so that a reader, or a
    process that dies, never sees half of it.

    Args:
        path (str | os.PathLike): Created, with its folder, when the first
            row is appended.
    """

    def __init__(self, path: Union[str, os.PathLike]) -> None:
        self.path = Path(path)

    def read(self) -> List[Row]:
        """All rows; none if the file does not exist yet.

        Raises:
            ValueError: If it is not a ledger or if a line does not parse.
        """
        try:
            lines = read_lines(self.path)
        except FileNotFoundError:
            return []
        if not is_ledger(lines[0]):
            raise ValueError(
                f'{self.path}:1: not a ledger of this version; its columns '
                f'must be {" ".join(COLUMNS)}. Append to another file'
            )
        rows = []
        for number, line in enumerate(lines[1:], 2):
            try:
                rows.append(Row.from_cells(line.split('\t')))
            except ValueError as error:
                raise ValueError(f'{self.path}:{number}: {error}') from None
        return rows

    def find(self, keys: Iterable[RunKey]) -> Dict[RunKey, Row]:
        """Which of these tests are there already.

        Args:
            keys (Iterable[RunKey]): Tests to look for.

        Returns:
            Dict[RunKey, Row]: The rows of those that were found.
        """
        keys = set(keys)
        return {row.key: row for row in self.read() if row.key in keys}

    def append(self, rows: Iterable[Row], force: bool = False) -> Appended:
        """Add rows, all of them or none.

        A test that is there already is skipped.

        Args:
            rows (Iterable[Row]): The results.
            force (bool): Replace the rows of tests that are there already.

        Returns:
            Appended: The rows that were written and those that were skipped.

        Raises:
            ValueError: If the file is not a ledger; it is left alone.
        """
        done = Appended([], [])
        with self._locked():
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
                write_rows(self.path, [row for same in table.values() for row in same])
        return done

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f'{self.path}.lock'):
            yield


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write a whole ledger; it replaces the file only when it is complete.

    Args:
        path (Path): The file; its folder must exist.
        rows (Iterable[Row]): All of its rows.
    """
    with atomic_path(path) as temporary, open(temporary, 'w', encoding='utf-8') as file:
        file.write('\t'.join(COLUMNS) + '\n')
        for row in rows:
            file.write('\t'.join(row.cells()) + '\n')
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path) -> List[str]:
    """Lines of a text file without their ends, whichever those are.

    Raises:
        ValueError: If it is not UTF-8 text.
    """
    try:
        text = path.read_text(encoding='utf-8')
    except UnicodeDecodeError as error:
        raise ValueError(f'{path}: not UTF-8 text: {error}') from None
    return text.removesuffix('\n').split('\n')


def is_ledger(header: str) -> bool:
    """Whether a file with this first line is a ledger of ours."""
    return tuple(header.split('\t')) == COLUMNS
