"""Files that MMEngine writes are whole or not there."""

import os.path as osp
from pathlib import Path
from typing import Union

from mmengine.fileio import LocalBackend, register_backend
from mmengine.fileio.io import backend_instances

from ..utils import atomic_path


class AtomicLocalBackend(LocalBackend):
    """MMEngine's backend of local files, for checkpoints and detections among others.

    MMEngine writes into the file itself: a training that is killed while it
    saves leaves half a checkpoint under its name. Here the file appears when
    it is complete; a symbolic link stands for the file that it leads to.
    """

    def put(self, obj: bytes, filepath: Union[str, Path]) -> None:
        """Write all bytes to ``filepath``, or nothing."""
        path = Path(osp.realpath(filepath))
        if path.exists() and not path.is_file():  # e.g. /dev/stdout
            super().put(obj, filepath)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            temporary.write_bytes(obj)


register_backend('local', AtomicLocalBackend, force=True, prefixes='')
backend_instances.clear()  # those that were made before
