"""Feature maps with channels last."""

from typing import Tuple

import torch
from torch import Tensor

from ..models.detector import DiffusionDet


class FastDiffusionDet(DiffusionDet):
    """Convolutions are faster on maps whose channels lie together, and such
    maps are laid out for the gather of RoI features without a transpose."""

    def backbone_maps(self, batch_inputs: Tensor) -> Tuple[Tensor, ...]:
        """(B, 3, H, W) images to the maps of the backbone."""
        return super().backbone_maps(batch_inputs.contiguous(memory_format=torch.channels_last))
