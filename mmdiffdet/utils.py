"""Small helpers that several rooms use."""

import glob
import io
import os
import platform
import re
import shutil
import tempfile
import warnings
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Iterator, List, Union

_HOST = re.sub(r'\W', '', platform.node())[:20]


@contextmanager
def atomic_path(path: Union[str, os.PathLike]) -> Iterator[Path]:
    """A path to write to; it becomes ``path`` only if nothing was raised.

    What a writer left behind that was killed on this machine is removed.

    Args:
        path (str | os.PathLike): The file to be; its folder must exist.
    """
    path = Path(path)
    remove_left(path)
    handle, name = tempfile.mkstemp(
        dir=path.parent, prefix=f'.{path.stem}-{_HOST}-{os.getpid()}-', suffix=path.suffix
    )
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Union[str, os.PathLike]) -> Iterator[Path]:
    """A folder to fill; it becomes ``path`` only if nothing was raised.

    What a writer left behind that was killed on this machine is removed.

    Args:
        path (str | os.PathLike): The folder to be, which must not exist; the one
            around it must.

    Raises:
        OSError: If somebody else was quicker.
    """
    path = Path(path)
    beginning = f'.{path.name}-{_HOST}-'
    for left in path.parent.glob(f'{glob.escape(beginning)}*'):
        if left.is_dir() and _is_left(left, beginning):
            shutil.rmtree(left, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f'{beginning}{os.getpid()}-'))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def remove_left(path: Path) -> None:
    """Remove what writers of this file left behind that were killed on this machine.

    Args:
        path (Path): As it was given to :func:`atomic_path`.
    """
    beginning = f'.{path.stem}-{_HOST}-'
    for left in path.parent.glob(f'{glob.escape(beginning)}*{glob.escape(path.suffix)}'):
        if _is_left(left, beginning):
            left.unlink(missing_ok=True)


def _is_left(path: Path, beginning: str) -> bool:
    number = path.name.removeprefix(beginning).partition('-')[0]
    return number.isdigit() and not _runs(int(number))


def _runs(process: int) -> bool:
    if os.name != 'posix':  # there signal 0 ends it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def printable(text: str) -> str:
    """The text on one line: control characters and line breaks as escapes."""
    return ''.join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def leaf_datasets(cfg: dict) -> List[dict]:
    """Configs of the data sets within wrappers.

    Args:
        cfg (dict): Of a data set or of a wrapper.
    """
    if 'datasets' in cfg:
        return [leaf for part in cfg['datasets'] for leaf in leaf_datasets(part)]
    return leaf_datasets(cfg['dataset']) if 'dataset' in cfg else [cfg]


@contextmanager
def quiet_import() -> Iterator[None]:
    """For MMDetection, which tells of optional packages that nobody asked for
    (OneDL, faster_coco_eval)."""
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield
