"""Write detections to a file, for other programs."""

import io
import pickle
from typing import Any

import numpy as np
import torch
from mmdet.evaluation import DumpDetResults
from mmengine.fileio import put
from mmengine.logging import print_log

# types that NumPy has too
_OF_NUMPY = (
    *(torch.float16, torch.float32, torch.float64, torch.bool),
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
)


class DumpDetections(DumpDetResults):
    """MMDetection's ``DumpDetResults``; equal detections make equal files.

    A pickled tensor holds an address in memory, MMEngine's data elements keep
    their fields in sets, whose order is another in each process, and which
    objects are the same one depends on the number of processes. Here the
    numbers alone are written, by the names of their fields.
    The file is read as ever: a list of dicts, an image each, with tensors.
    """

    def compute_metrics(self, results: list) -> dict:
        """Write the file; there are no metrics."""
        buffer = io.BytesIO()
        pickler = _Pickler(buffer, protocol=4)
        pickler.fast = True  # an object that is there twice is written twice
        pickler.dump(_ordered(results))
        put(buffer.getvalue(), self.out_file_path)
        print_log(f'Results has been saved to {self.out_file_path}.', logger='current')
        return {}


def _ordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _ordered(value[key]) for key in sorted(value, key=str)}
    if type(value) in (list, tuple):
        return type(value)(map(_ordered, value))
    return value


class _Pickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is torch.Tensor and obj.dtype in _OF_NUMPY:
            return torch.from_numpy, (np.array(obj.detach().cpu().numpy(), order='C'),)
        return NotImplemented
