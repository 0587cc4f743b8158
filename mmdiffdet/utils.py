"""Small helpers that several rooms use."""

import io
import os
import tempfile
import warnings
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Iterator, Union


@contextmanager
def atomic_path(path: Union[str, os.PathLike]) -> Iterator[Path]:
    """A path to write to; it becomes ``path`` only if nothing was raised.

    Args:
        path (str | os.PathLike): The file to be; its folder must exist.
    """
    path = Path(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.stem}-', suffix=path.suffix)
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
