"""Mean of RoI features."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.stage import DiffusionDetStage


class FastStage(DiffusionDetStage):
    """Pooling reads channels-last features as they lie, where a mean would
    first copy bfloat16 to float32. It is the slower one elsewhere, and for
    gradients."""

    @staticmethod
    def mean(roi: Tensor) -> Tensor:
        """(M, d, h, w) to (M, d)."""
        if torch.is_grad_enabled() or not roi.is_contiguous(memory_format=torch.channels_last):
            return DiffusionDetStage.mean(roi)
        return F.avg_pool2d(roi, roi.shape[-2:]).flatten(1)
