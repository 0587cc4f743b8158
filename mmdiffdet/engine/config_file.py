"""Reading config files, with the train seed that they ask for."""

import difflib
import os
import os.path as osp
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Sequence

from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE

from ..datasets.box_prior import use_box_prior
from ..datasets.from_file import use_classes_of_file, use_extra_coco
from ..paths import CONFIGS

# MMEngine's list of packages whose configs ``_base_ = 'mmdiffdet::...'`` may name
MODULE2PACKAGE.setdefault('mmdiffdet', 'mmdiffdet')


def find_config(path: str) -> str:
    """The file that a command line means.

    Args:
        path (str): A file, ``mmdiffdet::coco/coco.py``, or
            ``configs/coco/coco.py``, which is this package's where the
            working directory has no such file.

    Raises:
        FileNotFoundError: If there is none; names configs with a name like
            it.
    """
    if osp.isfile(path):
        return path
    name = Path(path).as_posix()
    for prefix in ('mmdiffdet::', 'configs/', './configs/'):
        if name.startswith(prefix):
            name = name.removeprefix(prefix)
            break
    else:
        name = ''
    if name and (CONFIGS / name).is_file():
        return str(CONFIGS / name)
    known = {
        file.relative_to(CONFIGS).as_posix(): file
        for file in CONFIGS.rglob('*.py')
        if '_base_' not in file.parts
    }
    like = difflib.get_close_matches(name or path, known, 3, 0.7)
    hint = f'; did you mean configs/{" or configs/".join(like)}?' if like else ''
    raise FileNotFoundError(f'config {path} does not exist{hint}')


def read_config(
    path: str,
    train_seed: Optional[int] = None,
    options: Optional[dict] = None,
    parts: Sequence[str] = (),
) -> Config:
    """Read a config file and give it its seed and work directory.

    Names of ``EXTRA_COCO_DATASETS`` and classes that are to be read from the
    annotation file are filled in.

    Args:
        path (str): See :func:`find_config`.
        train_seed (int, optional): Of a training; config files read it as
            ``TRAIN_SEED``. Outputs go to ``work_dirs/<name>_seed<train_seed>``
            (``work_dirs/<name>`` without a seed, or where the file says).
        options (dict, optional): Changes, as of ``--cfg-options``.
        parts (Sequence[str]): See :func:`add_parts`; outputs go to
            ``work_dirs/<name>+<part>``.

    Raises:
        FileNotFoundError: If there is no such config, or no annotation file
            whose classes it asks for.
        ValueError: If it sets another train seed, or there is something wrong
            with data that it leaves to be filled in.
    """
    file = find_config(path)
    with _train_seed(train_seed):
        cfg = Config.fromfile(file)
    if cfg.get('work_dir') is None:
        cfg.work_dir = osp.join('work_dirs', osp.splitext(osp.basename(path))[0])
    if parts:
        add_parts(cfg, parts)
        cfg.work_dir = '+'.join([cfg.work_dir, *map(_stem, parts)])
    if train_seed is not None:
        check_train_seed(cfg, train_seed)
        if not cfg.work_dir.endswith(f'_seed{train_seed}'):
            cfg.work_dir += f'_seed{train_seed}'
    if options is not None:
        cfg.merge_from_dict(options)
        if train_seed is not None:
            check_train_seed(cfg, train_seed)
    use_extra_coco(cfg)
    use_classes_of_file(cfg)
    use_box_prior(cfg)
    return cfg


def _stem(path: str) -> str:
    return osp.splitext(osp.basename(path))[0]


def add_parts(cfg: Config, names: Sequence[str]) -> None:
    """Put fragments on a recipe, one after the other.

    A fragment is a config file whose ``part`` holds what it changes. Parts of
    a stage (lists named ``..._parts``) and ``custom_hooks`` are added to
    those that are there, equal ones once; all else replaces.

    Args:
        cfg (Config): Changed in place.
        names (Sequence[str]): Of files in ``configs/_base_/parts``, or paths.

    Raises:
        ValueError: If there is no such fragment; names those that there are.
    """
    folder = CONFIGS / '_base_/parts'
    for i, name in enumerate(names):
        file = name if name.endswith('.py') else str(folder / f'{name}.py')
        if not osp.isfile(file):
            known = ', '.join(sorted(p.stem for p in folder.glob('*.py')))
            raise ValueError(
                f'--part {name}: there is no such part; choose from {known}, or give a file'
            )
        if name in names[:i]:
            raise ValueError(f'--part {name} is given twice')
        fragment = Config.fromfile(file).get('part')
        if fragment is None:
            raise ValueError(f'--part {name}: {file} sets no `part`')
        fragment = fragment.to_dict()
        _append_lists(cfg, fragment)
        cfg.merge_from_dict(fragment)


def _append_lists(base: Any, fragment: Dict[str, Any]) -> None:
    for key, value in fragment.items():
        there = base.get(key)
        if isinstance(value, dict) and isinstance(there, dict):
            _append_lists(there, value)
        elif there and (key.endswith('_parts') or key == 'custom_hooks'):
            fragment[key] = [*there, *(v for v in value if v not in there)]


def check_train_seed(cfg: Config, train_seed: int) -> None:
    """Raise ValueError if a config has another train seed."""
    found = cfg.get('randomness', {}).get('seed')
    if found != train_seed:
        raise ValueError(
            f'train seed {train_seed}: {cfg.filename} or --cfg-options set randomness.seed={found}'
        )


@contextmanager
def _train_seed(seed: Optional[int]) -> Iterator[None]:
    """Tell config files, and nobody else."""
    before = os.environ.pop('TRAIN_SEED', None)
    if seed is not None:
        os.environ['TRAIN_SEED'] = str(seed)
    try:
        yield
    finally:
        os.environ.pop('TRAIN_SEED', None)
        if before is not None:
            os.environ['TRAIN_SEED'] = before
