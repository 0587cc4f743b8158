"""Checkpoints by address, kept under names that no two share."""

import hashlib
import os
import re
import stat
from pathlib import Path
from typing import Optional, Union
from urllib.parse import unquote, urlparse

import torch
from mmengine.dist import barrier, get_dist_info

from ..ledger import sha256_of_file

# resnet50-0676ba61.pth: the beginning of the file's SHA-256
_HASH = re.compile(r'[-_]([0-9a-f]{8,64})\.')


def is_address(path: Union[str, os.PathLike]) -> bool:
    """Whether it is ``http://`` or ``https://``."""
    return str(path).startswith(('http://', 'https://'))


def download(url: str, folder: Optional[str] = None) -> Path:
    """The local file of an address; downloaded where it is not there yet.

    A name with the beginning of the file's SHA-256 (as torchvision's and
    MMDetection's have) is kept, if the file has it. Others get a part of the
    address's own hash, so that two files of one name are never mixed up.

    Args:
        url (str): ``http://`` or ``https://``.
        folder (str, optional): Defaults to ``checkpoints`` of ``torch.hub``'s
            cache.

    Raises:
        ValueError: If it cannot be downloaded.
    """
    place = Path(folder or os.path.join(torch.hub.get_dir(), 'checkpoints'))
    name = Path(unquote(urlparse(url).path)).name
    if not name:
        raise ValueError(f'checkpoint {url}: the address names no file')
    promised = _HASH.search(name)
    if promised and _has_hash(place / name, promised[1]):
        return place / name
    stem, ending = os.path.splitext(name)
    own = place / f'{stem}-{hashlib.sha256(url.encode()).hexdigest()[:12]}{ending}'
    if get_dist_info()[0] == 0:
        _fetch(url, own)
    barrier()
    _fetch(url, own)  # on other nodes
    return own


def check_is_file(path: Path, what: str) -> None:
    """Raise if a path is not a file that has an end.

    Args:
        path (Path): A link is followed.
        what (str): What the message calls it.

    Raises:
        FileNotFoundError: If there is nothing.
        ValueError: If it is a folder, a device, a pipe or a socket.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise FileNotFoundError(f'{what} does not exist') from error
    if not stat.S_ISREG(mode):
        kind = 'a folder' if stat.S_ISDIR(mode) else 'a device, pipe or socket'
        raise ValueError(f'{what} is {kind}, not a file')


def _has_hash(path: Path, beginning: str) -> bool:
    return path.is_file() and sha256_of_file(path).startswith(beginning)


def _fetch(url: str, path: Path) -> None:
    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(url, str(path), progress=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f'checkpoint {url} cannot be downloaded: {error}') from error
