"""RoI features by one kernel, on GPUs with Triton."""

from functools import lru_cache
from typing import Callable, Optional

import torch
from mmengine.logging import MMLogger
from torch import Tensor

from ..models.roi_gather import FeatureTable, GatherRoIExtractor


@lru_cache(maxsize=1)
def _kernel() -> Optional[Callable[..., Tensor]]:
    """The kernel; None where Triton is not installed."""
    try:
        from .roi_kernel import pool
    except ImportError:
        return None
    return pool


class FastRoIExtractor(GatherRoIExtractor):
    """In testing on CUDA one Triton kernel in place of two dozen operators.

    CPUs, gradients and compiled code have the plain way. Where Triton cannot
    build the kernel (it needs a C compiler), a warning says why, once.
    """

    failed = False
    """Of all of the process: whether the kernel could not be built."""

    def pool(self, table: FeatureTable, boxes: Tensor) -> Tensor:
        """See the parent."""
        kernel = None if FastRoIExtractor.failed or not _is_wanted(table.rows) else _kernel()
        if kernel is not None:
            try:
                return kernel(table, boxes, self.output_size, 4 * self.sampling_ratio**2)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # Triton's have no class in common
                FastRoIExtractor.failed = True
                MMLogger.get_current_instance().warning(
                    'RoI features are pooled without the Triton kernel, which failed: '
                    f'{type(error).__name__} {error}'
                )
        return super().pool(table, boxes)


def _is_wanted(rows: Tensor) -> bool:
    """Whether the kernel is for such features."""
    learns = torch.is_grad_enabled() and rows.requires_grad
    return rows.is_cuda and not learns and not torch.compiler.is_compiling()
