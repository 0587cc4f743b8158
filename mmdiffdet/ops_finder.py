"""Make MMCV importable where its operators were not compiled."""

import importlib
import importlib.util
import sys
import warnings
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, Optional

EXTENSION = 'mmcv._ext'


class OperatorFinder(MetaPathFinder):
    """Finds :mod:`mmdiffdet.ops` under the name of MMCV's extension.

    It is asked last, so that Python finds a compiled extension where there is one.
    """

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Optional[ModuleSpec]:
        """The module that replaces ``mmcv._ext``; None for other modules."""
        if name != EXTENSION:
            return None
        return importlib.util.spec_from_file_location(name, Path(__file__).with_name('ops.py'))


def compiled() -> bool:
    """Whether MMCV has its own, compiled operators."""
    extension = importlib.import_module(EXTENSION)
    return Path(extension.__file__).name != 'ops.py'


def find_operators() -> None:
    """Make ``import mmcv._ext`` succeed; a second call does nothing.

    Warns if MMDetection was imported before, which has then replaced the operators by
    functions that only raise.
    """
    if any(isinstance(finder, OperatorFinder) for finder in sys.meta_path):
        return
    if 'mmdet.models' in sys.modules and importlib.util.find_spec(EXTENSION) is None:
        warnings.warn(
            'MMCV has no compiled operators and mmdet was imported before mmdiffdet, so that '
            'NMS and RoIAlign are missing: import mmdiffdet first',
            stacklevel=3,
        )
    sys.meta_path.append(OperatorFinder())
