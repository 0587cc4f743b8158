"""Do the tests notice a change? Random single changes, each against its tests.

    python tests/mutate.py map                     # once: which test runs which line
    python tests/mutate.py run --count 50 [--seed 0] [--processes 2] [FILE ...]

``map`` runs the suite under coverage.py and remembers, for each line of the
package, the tests that run it (`.coverage.mutate`). ``run`` draws lines and changes
one thing in each: a comparison, an operator, a number, a condition, a truth value.
Every change goes into a copy of the repository, where the tests that run the line
are run until one fails; a line that none runs counts as not noticed. It prints a row
for each change and the share that was noticed. Not part of every run: a change takes
seconds to minutes. Needs ``pip install pytest-cov``.
"""

import argparse
import io
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import tokenize
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Set

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / '.coverage.mutate'
FOLDERS = (
    'diffusion',
    'losses',
    'models',
    'distill',
    'config',
    'fast',
    'engine',
    'ledger',
    'reports',
    'datasets',
    'pipelines',
    'convert',
)
OTHER = {
    '<': '<=',
    '<=': '<',
    '>': '>=',
    '>=': '>',
    '==': '!=',
    '!=': '==',
    '+': '-',
    '-': '+',
    '*': '/',
    '/': '*',
    '//': '*',
    '%': '*',
    'and': 'or',
    'or': 'and',
    'True': 'False',
    'False': 'True',
    'not': '',
    'is': 'is not',
    'in': 'not in',
}


class Change(NamedTuple):
    """One change of one token."""

    file: Path
    line: int
    before: str
    after: str
    source: str


def changes(file: Path, lines: Set[int]) -> Iterator[Change]:
    """All single changes of the given lines that still compile."""
    text = file.read_text()
    rows = text.splitlines(keepends=True)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        (line, start), (_, end) = token.start, token.end
        if line not in lines:
            continue
        if token.type == tokenize.NUMBER:
            after = f'{float(token.string) * 2 + 1:g}' if re.search(r'[.e]', token.string) else None
            after = after or f'({token.string} + 1)'
        elif token.string in ('if', 'while') and rows[line - 1].rstrip().endswith(':'):
            after = f'{token.string} not'  # of the first operand of and / or
        else:
            after = OTHER.get(token.string)
        if after is None:
            continue
        row = rows[line - 1]
        source = ''.join([*rows[: line - 1], row[:start] + after + row[end:], *rows[line:]])
        try:
            compile(source, str(file), 'exec')
        except (SyntaxError, SyntaxWarning):
            continue
        yield Change(file, line, token.string, after, source)


def map_lines() -> None:
    """Run the suite and remember which test runs which line."""
    DATA.unlink(missing_ok=True)
    subprocess.run(
        [sys.executable, '-m', 'pytest', '-q', '--cov=mmdiffdet', '--cov-context=test']
        + ['--cov-report=', 'tests'],
        cwd=ROOT,
        env=dict(os.environ, COVERAGE_FILE=str(DATA)),
    )


def tests_of_lines(file: Path) -> Dict[int, List[str]]:
    """Tests by line: those that run it, none where only the import does.

    Lines that are run by the import alone (signatures, class bodies) are left out:
    most of what they hold is names.
    """
    from coverage import CoverageData
    from coverage.python import PythonParser

    data = CoverageData(str(DATA))
    data.read()
    contexts = data.contexts_by_lineno(str(file))
    parser = PythonParser(text=file.read_text())
    parser.parse_source()
    imported = {line for line, found in contexts.items() if set(found) == {''}}
    return {
        line: sorted({c.rpartition('|')[0] for c in contexts.get(line, ()) if c})
        for line in (parser.statements | set(contexts)) - imported
    }


def noticed(change: Change, tests: List[str], copy: Path) -> bool:
    """Whether one of the tests fails with the change."""
    if not tests:
        return False
    target = copy / change.file.relative_to(ROOT)
    target.write_text(change.source)
    try:
        run = subprocess.run(
            [sys.executable, '-m', 'pytest', '-x', '-q', '-p', 'no:cacheprovider', *tests],
            cwd=copy,
            env=dict(os.environ, PYTHONPATH=str(copy)),
            capture_output=True,
            timeout=900,
        )
        return run.returncode != 0
    except subprocess.TimeoutExpired:
        return True
    finally:
        shutil.copy(change.file, target)


def run(count: int, seed: int, processes: int, files: List[Path]) -> None:
    """Draw changes, try them and print what came of each."""
    if not DATA.exists():
        sys.exit(f'{DATA.name} is missing; python tests/mutate.py map makes it')
    tests = {file: tests_of_lines(file) for file in files}
    possible = [c for file in files for c in changes(file, set(tests[file]))]
    drawn = random.Random(seed).sample(possible, min(count, len(possible)))
    width = Counter(n for lines in tests.values() for names in lines.values() for n in names)
    seen = 0
    with tempfile.TemporaryDirectory() as folder:
        copies = []
        for i in range(processes):
            copies.append(Path(folder) / str(i))
            shutil.copytree(
                ROOT,
                copies[-1],
                symlinks=True,
                ignore=shutil.ignore_patterns('.git', '.venv', 'pretrained', 'data.bak'),
            )

        def one(change: Change) -> bool:
            copy = copies.pop()
            # tests of what few tests run are closest to the line
            names = sorted(tests[change.file][change.line], key=lambda name: width[name])
            try:
                return noticed(change, names, copy)
            finally:
                copies.append(copy)

        with ThreadPoolExecutor(processes) as pool:
            for change, found in zip(drawn, pool.map(one, drawn)):
                seen += found
                row = change.file.read_text().splitlines()[change.line - 1].strip()
                count = len(tests[change.file][change.line])
                print(
                    'noticed' if found else f'SURVIVED {count} tests',
                    f'{change.file.relative_to(ROOT)}:{change.line}',
                    f'{change.before} -> {change.after}',
                    re.sub(r'\s+', ' ', row),
                    sep='\t',
                    flush=True,
                )
    print(f'{seen} of {len(drawn)} noticed')


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('action', choices=['map', 'run'])
    parser.add_argument('files', nargs='*', type=Path)
    parser.add_argument('--count', type=int, default=50)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--processes', type=int, default=1)
    args = parser.parse_args()
    if args.action == 'map':
        map_lines()
        return
    files = [file.resolve() for file in args.files]
    files = files or sorted(
        file for name in FOLDERS for file in (ROOT / 'mmdiffdet' / name).rglob('*.py')
    )
    run(args.count, args.seed, args.processes, files)


if __name__ == '__main__':
    main()
