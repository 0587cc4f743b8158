"""Small helpers that several rooms use."""

import glob
import io
import os
import platform
import re
import tempfile
import warnings
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Iterator, Union

_HOST = re.sub(r'\W', '', platform.node())[:20]


@contextmanager
def atomic_path(path: Union[str, os.PathLike]) -> Iterator[Path]:
    """A path to write to; it becomes ``path`` only if nothing was raised.

    What a writer left behind that was killed on this machine is removed.

    Args:
        path (str | os.PathLike): The file to be; its folder must exist.
    """
    path = Path(path)
    _clean(path)
    handle, name = tempfile.mkstemp(
        dir=path.parent, prefix=f'.{path.stem}-{_HOST}-{os.getpid()}-', suffix=path.suffix
    )
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _clean(path: Path) -> None:
    """Remove what writers of this file left behind that were killed here."""
    beginning = f'.{path.stem}-{_HOST}-'
    for left in path.parent.glob(f'{glob.escape(beginning)}*{glob.escape(path.suffix)}'):
        number = left.name.removeprefix(beginning).partition('-')[0]
        if number.isdigit() and not _runs(int(number)):
            left.unlink(missing_ok=True)


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


@contextmanager
def quiet_import() -> Iterator[None]:
    """For MMDetection, which tells of optional packages that nobody asked for
    (OneDL, faster_coco_eval)."""
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield
