"""Small helpers: files that are written whole or not at all, and printable text."""

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
    """A path to write to; it becomes ``path``, in an existing folder, unless something is raised.

    What a writer left behind that was killed on this machine is removed.
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
    """A folder to fill; it becomes ``path``, which must not exist, unless something is raised.

    The folder around it must exist. What a writer left behind that was killed on this
    machine is removed. OSError if another process was quicker.
    """
    path = Path(path)
    beginning = f'.{path.name}-{_HOST}-'
    for left in filter(Path.is_dir, _leftovers(path.parent, beginning, '')):
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
    """Remove what killed writers of :func:`atomic_path` left behind on this machine."""
    for left in _leftovers(path.parent, f'.{path.stem}-{_HOST}-', path.suffix):
        left.unlink(missing_ok=True)


def _leftovers(folder: Path, beginning: str, ending: str) -> Iterator[Path]:
    """Temporary files and folders of processes that do not run any more."""
    for path in folder.glob(f'{glob.escape(beginning)}*{glob.escape(ending)}'):
        number = path.name.removeprefix(beginning).partition('-')[0]
        if number.isdigit() and not _runs(int(number)):
            yield path


def _runs(process: int) -> bool:
    if os.name == 'posix':  # elsewhere signal 0 ends the process
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
        except (PermissionError, OverflowError):
            pass
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
    """Hide what MMDetection prints about optional packages when it is imported."""
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield
