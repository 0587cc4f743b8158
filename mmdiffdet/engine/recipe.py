"""Trainings that build on each other, as one resumable chain.

A recipe is a list of configs; each names in ``load_from`` the checkpoint that
the one before leaves behind. Seeds are independent of each other.
"""
import os.path as osp
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence

from mmengine.config import Config

from .launch import read_config

ROOT = Path(__file__).parents[2]
STAGES = ('baseline', 'warmstart', 'no_teacher', '20to1', 'geo_feat')
_BY_NAME = {
    'repro10k': ('baseline/repro10k', 'warmstart/warmstart',
                 'distill/no_teacher', 'distill/20to1', 'geo_feat/geo_feat')
}
Say = Callable[[str], None]


@dataclass(frozen=True)
class Stage:
    """One training of a chain.

    Args:
        name (str): One of ``STAGES``.
        config (str): Path of the config file.
        seed (int): The train seed.
        option (bool): Whether the config is told its seed (``--train-seed``);
            otherwise it is a file for this seed alone.
    """

    name: str
    config: str
    seed: int
    option: bool = True

    @property
    def seed_arguments(self) -> List[str]:
        """For ``tools/train.py`` and ``tools/test.py``."""
        return ['--train-seed', str(self.seed)] if self.option else []

    def read(self) -> Config:
        """The config with its seed."""
        return read_config(self.config, self.seed if self.option else None)

    @property
    def work_dir(self) -> str:
        """Where ``tools/train.py`` writes to."""
        return self.read().work_dir

    @property
    def checkpoint(self) -> str:
        """What the training leaves behind."""
        cfg = self.read()
        return osp.join(cfg.work_dir, f'iter_{cfg.train_cfg.max_iters}.pth')


def recipe(name: str, seed: int) -> List[Stage]:
    """The chain of a data set.

    Args:
        name (str): ``repro10k``, or a folder (by itself or in ``configs``)
            NAME with ``NAME.py``, ``NAME_warmstart.py``,
            ``NAME_no_teacher.py`` (the control of distillation),
            ``NAME_20to1.py`` and ``NAME_geo_feat.py``. A file may be for one
            seed alone, ``..._seed3.py``.
        seed (int): The train seed.

    Raises:
        ValueError: If there is no such recipe; names those that there are.
        FileNotFoundError: If the recipe has no file for this seed.
    """
    configs = ROOT / 'configs'
    if name in _BY_NAME:
        stems = [configs / stem for stem in _BY_NAME[name]]
    else:
        folder = Path(name) if Path(name).is_dir() else configs / name
        known = {p.parent.name for p in configs.glob('*/*_20to1.py')}
        if not folder.is_dir() or not any(folder.glob('*_20to1*.py')):
            raise ValueError(f'there is no recipe {name!r}; choose from '
                             f'{sorted(known | set(_BY_NAME))}, or give a '
                             'folder of configs')
        stems = [folder / f'{folder.name}{suffix}'
                 for suffix in ('', *(f'_{s}' for s in STAGES[1:]))]
    stages = []
    for stage, stem in zip(STAGES, stems):
        own = stem.with_name(f'{stem.name}_seed{seed}.py')
        file = own if own.is_file() else stem.with_suffix('.py')
        if not file.is_file() or (file != own and any(
                stem.parent.glob(f'{stem.name}_seed*.py'))):
            raise FileNotFoundError(f'recipe {name}, train seed {seed}: '
                                    f'{osp.relpath(own)} does not exist')
        stages.append(Stage(stage, osp.relpath(file), seed, file != own))
    return stages


def train(stage: Stage,
          arguments: Sequence[str] = (),
          processes: int = 1,
          say: Say = print,
          progress: Optional[Say] = None) -> None:
    """Train a stage unless that is done; go on where a killed one stopped.

    Args:
        stage (Stage): What to train.
        arguments (Sequence[str]): More of ``tools/train.py``.
        processes (int): More than 1 train through ``tools/dist_train.sh``.
        say (Callable): Told in one line what was done.
        progress (Callable, optional): Told about every logged iteration.

    Raises:
        RuntimeError: If the training fails; names its log. Also if it was
            trained from a checkpoint that is older than the one that is
            there now.
    """
    cfg = stage.read()
    done, label = Path(stage.checkpoint), f'seed {stage.seed}  {stage.name:9}'
    start = cfg.get('load_from')
    if done.exists():
        if start and osp.isfile(start) and \
                osp.getmtime(start) > done.stat().st_mtime:
            raise RuntimeError(
                f'{done} is older than {start}, from which it starts: remove '
                f'{done.parent} to train it anew')
        say(f'{label}  is there: {done}')
        return
    started = time.time()
    command = [sys.executable, str(ROOT / 'tools/train.py'), stage.config]
    if processes > 1:
        command = ['bash', str(ROOT / 'tools/dist_train.sh'), stage.config,
                   str(processes)]
    log = Path(cfg.work_dir) / 'train.log'
    run([*command, *stage.seed_arguments, '--resume', *arguments], log,
        progress, r'Iter\(train\) \[ *\d+/\d+\].*')
    minutes = (time.time() - started) / 60
    say(f'{label}  trained in {minutes:.1f} min: {done}')


def test(stage: Stage,
         arguments: Sequence[str],
         say: Say = print) -> None:
    """Test a stage's checkpoint; rows that its ledger has are not repeated.

    Args:
        stage (Stage): A trained one.
        arguments (Sequence[str]): Of ``tools/test.py``.
        say (Callable): Told in one line what was done.

    Raises:
        RuntimeError: If the test fails; names its log.
    """
    started = time.time()
    folder = Path(stage.work_dir)
    run([sys.executable, str(ROOT / 'tools/test.py'), stage.config,
         stage.checkpoint, *stage.seed_arguments, '--work-dir',
         str(folder / 'test'), *arguments], folder / 'test.log')
    minutes = (time.time() - started) / 60
    say(f'seed {stage.seed}  {stage.name:9}  tested in {minutes:.1f} min')


def run(command: Sequence[str],
        log: Path,
        progress: Optional[Say] = None,
        pattern: str = '.*') -> None:
    """Run a command; its output goes to a file.

    Args:
        command (Sequence[str]): Program and arguments.
        log (Path): All output; what it held is kept as ``<name>.old``.
        progress (Callable, optional): Called with what ``pattern`` matches.
        pattern (str): Regular expression, searched line by line.

    Raises:
        RuntimeError: If it fails, with the end of its output.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists():
        log.replace(log.with_name(f'{log.name}.old'))
    with open(log, 'w') as file:
        process = subprocess.Popen(
            list(command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True)
        try:
            for line in process.stdout:
                file.write(line)
                file.flush()
                found = re.search(pattern, line) if progress else None
                if found:
                    progress(found[0])
        except BaseException:  # of the reader: nothing runs on unseen
            process.terminate()
            process.wait()
            raise
    if process.wait():
        end = ''.join(log.read_text().splitlines(True)[-12:])
        raise RuntimeError(f'{end}\nfailed; all output is in {log}')


def run_chain(name: str,
              seed: int,
              stages: Sequence[str] = STAGES,
              train_arguments: Sequence[str] = (),
              test_arguments: Optional[Sequence[str]] = None,
              processes: int = 1,
              say: Say = print) -> Dict[str, str]:
    """Train, and perhaps test, the stages of a recipe for one train seed.

    Args:
        name (str): See :func:`recipe`.
        seed (int): The train seed.
        stages (Sequence[str]): Which of ``STAGES``.
        train_arguments (Sequence[str]): More of ``tools/train.py``.
        test_arguments (Sequence[str], optional): Of ``tools/test.py``; None
            tests nothing.
        processes (int): See :func:`train`.
        say (Callable): Told a line a stage.

    Returns:
        dict[str, str]: Checkpoints by stage.

    Raises:
        RuntimeError: If a stage fails; later ones are not begun.
    """
    done = {}
    for stage in recipe(name, seed):
        if stage.name in stages:
            train(stage, train_arguments, processes, say)
            if test_arguments is not None:
                test(stage, test_arguments, say)
            done[stage.name] = stage.checkpoint
    return done
