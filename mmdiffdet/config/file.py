"""Reading config files, with train seed, parts and changes of the command line."""

import difflib
import os
import os.path as osp
import re
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Sequence, Tuple

from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE

from ..datasets.box_prior import use_box_prior
from ..datasets.from_file import use_classes_of_file, use_extra_coco
from ..errors import nearest
from ..paths import CONFIGS
from .check import check_config

# MMEngine's list of packages whose configs ``_base_ = 'mmdiffdet::...'`` may name
MODULE2PACKAGE.setdefault('mmdiffdet', 'mmdiffdet')
# the default hooks that MMEngine has without a config
_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')


def find_config(path: str) -> str:
    """The config file that a command line names.

    ``path`` is a file, ``mmdiffdet::coco/coco.py``, or ``configs/coco/coco.py``, which
    is this package's where the working directory has no such file. FileNotFoundError
    tells of configs with a similar name.
    """
    if osp.isfile(path):
        return path
    if osp.exists(path):
        kind = 'a folder' if osp.isdir(path) else 'a device or pipe'
        raise ValueError(f'config {path} is {kind}, not a file')
    found = re.match(r'(mmdiffdet::|configs/)(.+)', Path(path).as_posix())
    name = found[2] if found else ''
    if name and (CONFIGS / name).is_file():
        return str(CONFIGS / name)
    files = [file for file in CONFIGS.rglob('*.py') if '_base_' not in file.parts]
    known = [file.relative_to(CONFIGS).as_posix() for file in files]
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
        train_seed (int, optional): The training's seed, which config files read as
            ``TRAIN_SEED``. Outputs go to ``work_dirs/<name>_seed<train_seed>``
            (``work_dirs/<name>`` without a seed, or where the file says).
        options (dict, optional): Changes by ``--cfg-options``.
        parts (Sequence[str]): See :func:`add_parts`; outputs go to
            ``work_dirs/<name>+<part>``.

    Raises:
        ValueError: If it cannot be read, sets another train seed, or see
            :func:`check_config`.
    """
    file = find_config(path)
    with _train_seed(train_seed):
        cfg = _from_file(file)
    if cfg.get('work_dir') is None:
        cfg.work_dir = osp.join('work_dirs', Path(path).stem)
    if parts:
        add_parts(cfg, parts)
        cfg.work_dir = '+'.join([cfg.work_dir, *(Path(part).stem for part in parts)])
    if train_seed is not None:
        check_train_seed(cfg, train_seed)
        if not cfg.work_dir.endswith(f'_seed{train_seed}'):
            cfg.work_dir += f'_seed{train_seed}'
    if options is not None:
        _apply(cfg, options)
        if train_seed is not None:
            check_train_seed(cfg, train_seed)
    check_config(cfg, options)
    _switch_hooks_off(cfg)
    use_extra_coco(cfg)
    use_classes_of_file(cfg)
    use_box_prior(cfg)
    return cfg


def _switch_hooks_off(cfg: Config) -> None:
    """Take out default hooks that are None, which MMEngine does with its own alone."""
    hooks = cfg.get('default_hooks') or {}
    for name in [name for name, hook in hooks.items() if hook is None and name not in _HOOKS]:
        near = nearest(name, _HOOKS, 0.8)
        if near:
            raise ValueError(f'default_hooks.{name}=None switches nothing off{near}')
        del hooks[name]


def _from_file(file: str) -> Config:
    """Read a config file, a program: ValueError tells what it raised, and where."""
    try:
        _check_bases(osp.abspath(file), ())
        cfg = Config.fromfile(file)
    except Exception as error:
        where, line = file, error.lineno if isinstance(error, SyntaxError) else None
        for frame, number in traceback.walk_tb(error.__traceback__):
            if frame.f_code.co_name == '_file2dict':  # of this file or one of its bases
                where = frame.f_locals.get('filename', file)
            elif frame.f_code.co_name == '<module>' and frame.f_code.co_filename == where:
                line = number
        text = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ValueError(
            f'config {where}{f", line {line}" if line else ""} cannot be read: '
            f'{type(error).__name__}: {text}'
        ) from error
    if not len(cfg):
        raise ValueError(f'config {file} is empty')
    return cfg


def _check_bases(file: str, above: Tuple[str, ...]) -> None:
    """Raise ValueError if a file is its own base, which MMEngine would follow for ever."""
    if file in above:
        raise ValueError(f'{file} is its own _base_')
    try:
        bases = [Config._get_cfg_path(base, file)[0] for base in Config._get_base_files(file)]
    except Exception:  # of no such file, or names that are filled in only when it is read
        return
    for base in bases:
        _check_bases(osp.abspath(base), (*above, file))


def _apply(cfg: Config, options: dict) -> None:
    """Apply ``--cfg-options`` one by one, so that an error names the option."""
    for key, value in options.items():
        try:
            cfg.merge_from_dict({key: value})
        except Exception as error:
            why = _why_not(cfg, key) or error
            raise ValueError(f'--cfg-options {key}={value}: {why}') from error


def _why_not(cfg: Config, key: str) -> str:
    """Tell which step of a dotted key leads nowhere."""
    there: Any = cfg._cfg_dict
    steps = key.split('.')
    for i, step in enumerate(steps):
        place = f'{".".join(steps[:i])} of the config is'
        if isinstance(there, (list, tuple)):
            if not step.isdigit() or int(step) >= len(there):
                return f'{place} a list, of which 0 to {len(there) - 1} can be named, not {step}'
            there = there[int(step)]
        elif not isinstance(there, dict):
            return f'{place} {there!r}, which has no {step}'
        elif step not in there:
            return ''
        else:
            there = there[step]
    return ''


def add_parts(cfg: Config, names: Sequence[str]) -> None:
    """Put fragments, named by files of ``configs/_base_/parts`` or by paths, on a recipe.

    A fragment is a config file whose ``part`` holds what it changes. Parts of
    a stage (lists named ``..._parts``) and ``custom_hooks`` are added to
    those that are there, equal ones once; all else replaces. ValueError if there is
    no such fragment.
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
        fragment = _from_file(file).get('part')
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
    """Set ``TRAIN_SEED`` while a config file is read, and at no other time."""
    before = os.environ.pop('TRAIN_SEED', None)
    if seed is not None:
        os.environ['TRAIN_SEED'] = str(seed)
    try:
        yield
    finally:
        os.environ.pop('TRAIN_SEED', None)
        if before is not None:
            os.environ['TRAIN_SEED'] = before
