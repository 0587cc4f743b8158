"""Tools that get killed and run again, and what must be there then."""

import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

import torch
from mutate_inputs import Lab, run_tool

from mmdiffdet.engine import load_checkpoint_file
from mmdiffdet.ledger import Ledger, sha256_of_file
from mmdiffdet.ledger.verify import verify

_OPERATIONS = ('os.rename', 'os.remove', 'os.mkdir', 'os.rmdir', 'os.chmod')


class Job:
    """A tool whose outputs go to a folder; subclasses say what must be there.

    Args:
        lab (Lab): Its inputs.
        folder (Path): For all of its runs.
    """

    tool = ''

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.folder = lab, folder
        self.number = 0
        self.reference = self.new()
        counted = self.folder / 'operations'
        began = time.monotonic()
        self.run(self.reference, prepare=lambda: watch(lambda n: counted.write_text(str(n))))
        self.seconds = time.monotonic() - began
        self.operations = int(counted.read_text())

    def new(self) -> Path:
        """A folder as it is before the first run."""
        self.number += 1
        folder = self.folder / f'{type(self).__name__.lower()}{self.number}'
        folder.mkdir()
        return folder

    def argv(self, out: Path, again: bool) -> List[str]:
        """Arguments of the tool."""
        raise NotImplementedError

    def whole(self, out: Path) -> str:
        """What is wrong after a kill, or nothing."""
        raise NotImplementedError

    def same(self, out: Path) -> str:
        """What is not as in the reference, or nothing."""
        raise NotImplementedError

    def run(self, out: Path, again: bool = False, **options: Any) -> int:
        """Run it; raises RuntimeError if it fails by itself."""
        code, text = run_tool(self.tool, self.argv(out, again), self.folder, **options)
        if code not in (0, -1000, -signal.SIGKILL):
            raise RuntimeError(f'{self.tool} ended with {code}:\n{text[-2000:]}')
        return code

    def kill(self, rng: random.Random) -> str:
        """Kill a run, run it again; what is wrong, ``ended`` if it was too late."""
        out = self.new()
        if rng.random() < 0.5:
            code = self.run(out, seconds=rng.uniform(0.02, 1) * self.seconds)
        else:
            last = rng.randint(1, self.operations)
            code = self.run(
                out, prepare=lambda: watch(lambda n: n == last and os.kill(os.getpid(), 9))
            )
        wrong = self.whole(out)
        if wrong:
            return f'after the kill: {wrong}'
        try:
            self.run(out, again=True)
        except RuntimeError as error:
            return f'the second run: {error}'
        left = [p for p in out.rglob('.*') if not p.name.endswith('.lock')]
        wrong = self.same(out) or (f'left: {left}' if left else '')
        shutil.rmtree(out)
        return wrong or ('' if code else 'ended')


def watch(act: Callable[[int], Any]) -> None:
    """Count the operations on files of this process, before each of them."""
    count, busy = 0, False

    def hook(event: str, args: tuple) -> None:
        nonlocal count, busy
        writes = (
            event == 'open' and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
        )
        if not busy and (writes or event in _OPERATIONS):
            count, busy = count + 1, True
            act(count)
            busy = False

    sys.addaudithook(hook)


class Training(Job):
    """Four iterations with a checkpoint each."""

    tool = 'train.py'

    def argv(self, out: Path, again: bool) -> List[str]:
        options = ['train_cfg.max_iters=4', 'default_hooks.checkpoint.interval=1']
        argv = [str(self.lab.config), '--work-dir', str(out)]
        return argv + ['--resume'] * again + ['--cfg-options', *options]

    def whole(self, out: Path) -> str:
        for path in out.glob('[!.]*.pth'):
            try:
                load_checkpoint_file(path)
            except ValueError as error:
                return str(error)
        return ''

    def same(self, out: Path) -> str:
        found, expected = (
            load_checkpoint_file(folder / 'iter_4.pth')['state_dict']
            for folder in (out, self.reference)
        )
        other = [k for k in expected if not torch.equal(found[k], expected[k])]
        return self.whole(out) or (f'other weights: {other[:3]}' if other else '')


class Testing(Job):
    """Two eval seeds of two numbers of steps, with a ledger and detections."""

    tool = 'test.py'

    def argv(self, out: Path, again: bool) -> List[str]:
        argv = [str(self.lab.config), str(self.lab.checkpoint), '--work-dir', str(out)]
        argv += ['--ledger', str(out / 'ledger.tsv'), '--out', str(out / 'found.pkl')]
        return [*argv, '--eval-seeds', '0', '1', '--steps', '1', '2']

    def rows(self, out: Path) -> Dict[tuple, dict]:
        rows = Ledger(out / 'ledger.tsv').read()
        found = {row.key: row.metrics for row in rows}
        if len(found) < len(rows):
            raise ValueError(f'{len(rows) - len(found)} rows stand twice')
        return found

    def whole(self, out: Path) -> str:
        try:
            found, expected = self.rows(out), self.rows(self.reference)
        except ValueError as error:
            return str(error)
        other = [key for key in found if found[key] != expected.get(key)]
        for path in out.glob('[!.]*.pkl'):
            if path.read_bytes() != (self.reference / path.name).read_bytes():
                return f'{path} has other bytes'
        return f'other rows: {other}' if other else ''

    def same(self, out: Path) -> str:
        missing = len(self.rows(self.reference)) - len(self.rows(out))
        files = len(list(self.reference.glob('[!.]*.pkl'))) - len(list(out.glob('[!.]*.pkl')))
        lost = f'{missing} rows and {files} files are missing' if missing or files else ''
        return self.whole(out) or lost


class Freezing(Job):
    """A deliverable of the rows of a test."""

    tool = 'freeze.py'

    def __init__(self, lab: Lab, folder: Path, ledger: Path) -> None:
        self.ledger = ledger
        super().__init__(lab, folder)

    def argv(self, out: Path, again: bool) -> List[str]:
        # one that is there is complete, and refused
        name = 'another' if (out / 'name').exists() else 'name'
        return [name, '--rows', str(self.ledger), '--out', str(out)]

    def whole(self, out: Path) -> str:
        digest = sha256_of_file(self.reference / 'name/SHA256SUMS')
        for folder in out.glob('[!.]*'):
            try:
                found = verify(folder, digest=digest).problems
            except (OSError, ValueError) as error:
                found = [str(error)]
            if found:
                return found[0]
        return ''

    def same(self, out: Path) -> str:
        return self.whole(out) if (out / 'name').is_dir() else 'there is no deliverable'


class Finalizing(Job):
    """A checkpoint to be given away, in place of an older one."""

    tool = 'finalize_checkpoint.py'

    def new(self) -> Path:
        folder = super().new()
        (folder / 'model.pth').write_bytes(b'older')
        digest = sha256_of_file(folder / 'model.pth')
        (folder / 'model.pth.sha256').write_text(f'{digest}  model.pth\n')
        return folder

    def argv(self, out: Path, again: bool) -> List[str]:
        return [str(self.lab.checkpoint), str(out / 'model.pth')]

    def whole(self, out: Path) -> str:
        path, sums = out / 'model.pth', out / 'model.pth.sha256'
        content = path.read_bytes()
        if content not in (b'older', (self.reference / 'model.pth').read_bytes()):
            return f'{path} is neither the older file nor the new one'
        if sums.exists() and sums.read_text() != f'{sha256_of_file(path)}  model.pth\n':
            return f'{sums} is not of {path}'
        return ''

    def same(self, out: Path) -> str:
        names = sorted(p.name for p in out.iterdir())
        if names != ['model.pth', 'model.pth.sha256']:
            return f'there are {names}'
        old = (out / 'model.pth').read_bytes() == b'older'
        return 'the older file is there' if old else self.whole(out)


def jobs_of(lab: Lab, folder: Path) -> List[Job]:
    """All that get killed; the rows of a test are what is frozen."""
    testing = Testing(lab, folder)
    ledger = testing.reference / 'ledger.tsv'
    return [
        Training(lab, folder),
        testing,
        Freezing(lab, folder, ledger),
        Finalizing(lab, folder),
    ]
