"""Deliverables that are tampered with."""

import random
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, List

from mmdiffdet.ledger import Ledger, sha256_of_file
from mmdiffdet.ledger.experiments import group
from mmdiffdet.ledger.freeze import freeze
from mmdiffdet.ledger.reader import read_results
from mmdiffdet.ledger.verify import verify


def _files(folder: Path) -> List[Path]:
    return sorted(p for p in folder.rglob('*') if p.is_file() and p.name != 'SHA256SUMS')


def _bytes(path: Path, change: Callable[[bytearray], Any]) -> str:
    content = bytearray(path.read_bytes())
    change(content)
    path.write_bytes(content)
    return path.name


def _flip(path: Path, rng: random.Random) -> str:
    def change(content: bytearray) -> None:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)

    return _bytes(path, change)


def _swap(rng: random.Random, files: List[Path]) -> str:
    a, b = rng.sample(files, 2)
    first, second = a.read_bytes(), b.read_bytes()
    while first == second:  # which changes nothing
        a, b = rng.sample(files, 2)
        first, second = a.read_bytes(), b.read_bytes()
    a.write_bytes(second)
    b.write_bytes(first)
    return f'{a.name} and {b.name}'


def _lines(path: Path, change: Callable[[List[str]], Any]) -> str:
    lines = path.read_text().splitlines(True)
    change(lines)
    path.write_text(''.join(lines))
    return path.name


def _number(path: Path, rng: random.Random) -> str:
    """Another last digit of a number of a table's row."""

    def change(lines: List[str]) -> None:
        line = rng.randrange(1, len(lines))
        cells = lines[line].split('\t')
        places = [i for i, cell in enumerate(cells) if re.fullmatch(r'-?\d+(\.\d+)?', cell)]
        place = rng.choice(places)
        cells[place] = cells[place][:-1] + str((int(cells[place][-1]) + 1) % 10)
        lines[line] = '\t'.join(cells)

    return _lines(path, change)


def _link(folder: Path, path: Path) -> str:
    """The same bytes, but elsewhere."""
    elsewhere = folder.with_name(path.name)
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    return path.name


def _sum_again(folder: Path) -> None:
    (folder / 'SHA256SUMS').write_text(
        ''.join(
            f'{sha256_of_file(p)}  {p.relative_to(folder).as_posix()}\n' for p in _files(folder)
        )
    )


# what is given: the deliverable, the folder of its checkpoints, the draw
TAMPERINGS: Dict[str, Callable[[Path, Path, random.Random], str]] = {
    'flipped bit': lambda d, c, r: _flip(r.choice(_files(d)), r),
    'flipped bit of the sums': lambda d, c, r: _flip(d / 'SHA256SUMS', r),
    'cut file': lambda d, c, r: _bytes(r.choice(_files(d)), lambda b: b.pop()),
    'longer file': lambda d, c, r: _bytes(r.choice(_files(d)), lambda b: b.extend(b'\n')),
    'swapped files': lambda d, c, r: _swap(r, _files(d)),
    'missing file': lambda d, c, r: r.choice(_files(d)).unlink() or '',
    'further file': lambda d, c, r: (d / 'configs/more.py').write_text('x = 1\n') and '',
    'empty folder': lambda d, c, r: (d / 'more').mkdir() or '',
    'empty deliverable': lambda d, c, r: (shutil.rmtree(d), d.mkdir()) and '',
    'link for a file': lambda d, c, r: _link(d, r.choice(_files(d))),
    'missing row': lambda d, c, r: _lines(d / 'runs.tsv', lambda x: x.pop(r.randrange(1, len(x)))),
    'row twice': lambda d, c, r: _lines(d / 'runs.tsv', lambda x: x.append(r.choice(x[1:]))),
    'rows in another order': lambda d, c, r: _lines(d / 'runs.tsv', lambda x: x.append(x.pop(1))),
    'number of a row': lambda d, c, r: _number(d / 'runs.tsv', r),
    'number of the manifest': lambda d, c, r: _number(d / 'manifest.tsv', r),
    'line of the sums': lambda d, c, r: _lines(
        d / 'SHA256SUMS', lambda x: x.pop(r.randrange(len(x)))
    ),
    'flipped bit of a checkpoint': lambda d, c, r: _flip(r.choice(_files(c)), r),
    'another checkpoint': lambda d, c, r: r.choice(_files(c)).write_bytes(r.randbytes(99)) and '',
    'missing checkpoint': lambda d, c, r: r.choice(_files(c)).unlink() or '',
}


class Deliverable:
    """A deliverable of a test, of which copies are tampered with.

    Args:
        folder (Path): For all copies.
        ledger (Path): The rows of the test.
    """

    def __init__(self, folder: Path, ledger: Path) -> None:
        self.folder = folder
        experiments = group(read_results([ledger], []).runs)
        self.digest = freeze(experiments, folder / 'frozen')
        self.checkpoint = Path(Ledger(ledger).read()[0].checkpoint)

    def tamper(self, kind: str, hide: bool, rng: random.Random) -> List[str]:
        """What verify finds in a copy; with ``hide``, the sums are made anew."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        copy, checkpoints = folder / 'name', folder / 'checkpoints'
        shutil.copytree(self.folder / 'frozen', copy)
        checkpoints.mkdir()
        shutil.copy(self.checkpoint, checkpoints)
        if kind:
            TAMPERINGS[kind](copy, checkpoints, rng)
        if hide and (copy / 'SHA256SUMS').exists() and 'of the sums' not in kind:
            _sum_again(copy)
        try:
            return verify(copy, checkpoints=checkpoints, digest=self.digest).problems
        except (OSError, ValueError) as error:  # which the tool tells in one line
            return [str(error)]
        finally:
            shutil.rmtree(folder)
