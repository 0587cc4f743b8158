"""Trainings that build on each other, as one resumable chain.

A recipe names configs; each names in ``load_from`` the checkpoint that the one
before leaves behind. Train seeds are independent of each other.
"""

import os.path as osp
import sys
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

from mmengine.config import Config

from ..config.file import read_config
from ..paths import CONFIGS, TOOLS
from . import few_steps
from .child_process import Say, run
from .provenance import check_origin, finished

TRAININGS = ('baseline', 'warmstart', 'no_teacher', '20to1', 'geo_feat')
_RECIPES = {
    'repro10k': dict(
        baseline='baseline/repro10k',
        warmstart='warmstart/warmstart',
        no_teacher='distill/no_teacher',
        **{'20to1': 'distill/20to1'},
        geo_feat='geo_feat/geo_feat',
    ),
    # trainings from scratch, next to each other; + names a part (--part)
    'repro10k_models': dict(
        diffusiondet='baseline/repro10k',
        d3pm_quality='baseline/repro10k+d3pm_quality',
        detr='detr/detr_r50_repro10k',
    ),
    'demo_models': dict(
        diffusiondet='demo/demo', d3pm_quality='demo/demo+d3pm_quality', detr='detr/detr_demo'
    ),
    'few_steps': few_steps.TRAININGS,
}
# recipes that say how each training is tested, and what is compared
STUDIES = {'few_steps': few_steps}
# of tools/train.py, but they would lead away from where a chain looks
_RESERVED = (
    '--work-dir',
    '--train-seed',
    '--part',
    '--resume',
    'work_dir',
    'load_from',
    'train_cfg.max_iters',
    'randomness',
)


def _print(line: str) -> None:
    print(line, flush=True)


def _from_here(path: Path) -> str:
    try:
        return osp.relpath(path)
    except ValueError:  # on another drive
        return str(path)


@dataclass(frozen=True)
class Training:
    """One training of a chain.

    Args:
        name (str): What it is called in its recipe, such as ``warmstart``.
        config (str): Path of the config file.
        seed (int): The train seed.
        option (bool): Whether the config is told its seed (``--train-seed``);
            otherwise it is a file for this seed alone.
        parts (Tuple[str]): What is put on the config (``--part``).
    """

    name: str
    config: str
    seed: int
    option: bool = True
    parts: Tuple[str, ...] = ()

    @property
    def arguments(self) -> List[str]:
        """Seed and parts, for ``tools/train.py`` and ``tools/test.py``."""
        seed = ['--train-seed', str(self.seed)] if self.option else []
        return [*seed, *(['--part', *self.parts] if self.parts else [])]

    @property
    def folder(self) -> str:
        """Name of the work directory, unless the config names another."""
        name = '+'.join([Path(self.config).stem, *self.parts])
        return f'{name}_seed{self.seed}' if self.option else name

    @cached_property
    def cfg(self) -> Config:
        """The config with its seed, as it was when first looked at."""
        return read_config(self.config, self.seed if self.option else None, parts=self.parts)

    @property
    def work_dir(self) -> str:
        """Where ``tools/train.py`` writes to."""
        return self.cfg.work_dir

    @property
    def checkpoint(self) -> str:
        """What the training leaves behind."""
        return osp.join(self.work_dir, f'iter_{self.cfg.train_cfg.max_iters}.pth')


def recipe(name: str, seed: int, trainings: Optional[Sequence[str]] = None) -> List[Training]:
    """The chain of a data set.

    Args:
        name (str): A recipe of this file, or a folder (by itself or in
            ``configs``) NAME with ``NAME.py``, ``NAME_warmstart.py``,
            ``NAME_no_teacher.py`` (the control of distillation),
            ``NAME_20to1.py`` and ``NAME_geo_feat.py``. A file may be for one
            seed alone, ``..._seed3.py``.
        seed (int): The train seed.
        trainings (Sequence[str], optional): Which; by default all that there
            are.

    Raises:
        ValueError: If there is no such recipe or training; names those that
            there are.
        FileNotFoundError: If a training has no file for this seed.
    """
    configs = CONFIGS
    if name in _RECIPES:
        stems = {k: configs / v for k, v in _RECIPES[name].items()}
    else:
        folder = configs / name
        if not any(folder.glob('*_20to1*.py')):
            folder = Path(name)
        stems = {
            training: folder / (folder.name + ('' if training == 'baseline' else f'_{training}'))
            for training in TRAININGS
        }
        if not any(folder.glob(f'{folder.name}*.py')):
            known = {p.parent.name for p in configs.glob('*/*_20to1.py')}
            raise ValueError(
                f'there is no recipe {name!r}; choose from '
                f'{sorted(known | set(_RECIPES))}, or give a folder of '
                'configs'
            )
    unknown = sorted(set(trainings or ()) - set(stems))
    if unknown:
        raise ValueError(f'recipe {name} has no trainings {unknown}; it has {list(stems)}')
    found = []
    for training, stem in stems.items():
        stem_name, *parts = stem.name.split('+')
        stem = stem.with_name(stem_name)
        own = stem.with_name(f'{stem.name}_seed{seed}.py')
        file = own if own.is_file() else stem.with_name(f'{stem.name}.py')
        seeded = any(stem.parent.glob(f'{stem.name}_seed*.py'))
        if file.is_file() and (file == own or not seeded):
            found.append(Training(training, _from_here(file), seed, file != own, tuple(parts)))
        elif trainings is None or training in trainings:
            raise FileNotFoundError(
                f'recipe {name}, train seed {seed}, training {training}: '
                f'{_from_here(own if seeded else file)} does not exist'
            )
    return found


def check_train_arguments(arguments: Sequence[str]) -> None:
    """Raise ValueError if a chain would not find what they lead to."""
    for argument in arguments:
        name = argument.split('=')[0]
        for reserved in _RESERVED:
            if name == reserved or name.startswith(f'{reserved}.'):
                raise ValueError(
                    f'{name} cannot be given to a chain, which would not find '
                    'its checkpoints: change the config'
                )


def train(
    training: Training,
    arguments: Sequence[str] = (),
    processes: int = 1,
    say: Say = _print,
    progress: Optional[Say] = None,
) -> None:
    """Run a training unless it is done; go on where a killed one stopped.

    Args:
        training (Training): What to run.
        arguments (Sequence[str]): More of ``tools/train.py``.
        processes (int): More than 1 train through ``tools/dist_train.sh``.
        say (Callable): Told in one line what was done.
        progress (Callable, optional): Told about every logged iteration.

    Raises:
        RuntimeError: If the training fails, names its log; or if what is
            there was trained in another way or from another checkpoint.
        ValueError: See :func:`check_train_arguments`.
    """
    check_train_arguments(arguments)
    done, label = training.checkpoint, f'seed {training.seed}  {training.name:10}'
    check_origin(training.cfg, training.seed)
    if finished(done):
        say(f'{label}  is there: {done}')
        return
    started = time.time()
    command = [sys.executable, str(TOOLS / 'train.py'), training.config]
    if processes > 1:
        command = ['bash', str(TOOLS / 'dist_train.sh'), training.config, str(processes)]
    run(
        [*command, *training.arguments, '--resume', *arguments],
        Path(training.work_dir) / 'train.log',
        progress,
        r'Iter\(train\) \[ *\d+/\d+\].*',
    )
    if not finished(done):
        raise RuntimeError(f'{training.config} was trained, but {done} is not there')
    say(f'{label}  trained in {(time.time() - started) / 60:.1f} min: {done}')


def test(training: Training, arguments: Sequence[str], say: Say = _print) -> None:
    """Test a training's checkpoint; rows that its ledger has are not repeated.

    Args:
        training (Training): A finished one.
        arguments (Sequence[str]): Of ``tools/test.py``.
        say (Callable): Told in one line what was done.

    Raises:
        RuntimeError: If the test fails; names its log.
    """
    started = time.time()
    folder = Path(training.work_dir)
    run(
        [
            sys.executable,
            str(TOOLS / 'test.py'),
            training.config,
            training.checkpoint,
            *training.arguments,
            '--work-dir',
            str(folder / 'test'),
            *arguments,
        ],
        folder / 'test.log',
    )
    minutes = (time.time() - started) / 60
    say(f'seed {training.seed}  {training.name:10}  tested in {minutes:.1f} min')


def run_chain(
    name: str,
    seed: int,
    trainings: Optional[Sequence[str]] = None,
    train_arguments: Sequence[str] = (),
    test_arguments: Optional[Sequence[str]] = None,
    processes: int = 1,
    say: Say = _print,
) -> Dict[str, str]:
    """Train, and perhaps test, the trainings of a recipe for one train seed.

    Args:
        name (str): See :func:`recipe`.
        seed (int): The train seed.
        trainings (Sequence[str], optional): Which; all by default.
        train_arguments (Sequence[str]): More of ``tools/train.py``.
        test_arguments (Sequence[str], optional): Of ``tools/test.py``, in
            addition to those of a study; None tests nothing.
        processes (int): See :func:`train`.
        say (Callable): Told a line a training.

    Returns:
        dict[str, str]: Checkpoints by training.

    Raises:
        RuntimeError: If a training fails; later ones are not begun. Also if an
            earlier training that was not asked for is not what it should be.
    """
    done, chain = {}, recipe(name, seed, trainings)
    starts = set()  # folders of what is wanted, and of what it starts from
    for training in reversed(chain if trainings else ()):
        if training.name in trainings or training.folder in starts:
            starts.add(osp.basename(osp.dirname(training.cfg.get('load_from') or '')))
    for training in chain:
        if trainings is None or training.name in trainings:
            train(training, train_arguments, processes, say)
            if test_arguments is not None:
                ways = STUDIES[name].tests(training.name) if name in STUDIES else [[]]
                for way in ways:
                    test(training, [*way, *test_arguments], say)
            done[training.name] = training.checkpoint
        elif training.folder in starts:
            check_origin(training.cfg, seed)
    return done
