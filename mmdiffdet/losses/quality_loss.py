"""Loss of the quality head."""

from typing import Optional

import torch.nn.functional as F
from mmdet.models.losses.utils import weight_reduce_loss
from torch import Tensor, nn

from ..registry import MODELS

LOSS_TYPES = ('bce', 'l1', 'mse')


@MODELS.register_module()
class QualityLoss(nn.Module):
    """Predicted against true IoU of matched proposals.

    Args:
        loss_type (str): ``bce`` on logits; ``l1`` or ``mse`` on the sigmoid.
        loss_weight (float): Defaults to 1.

    Raises:
        ValueError: If ``loss_type`` is unknown.
    """

    def __init__(self, loss_type: str = 'bce', loss_weight: float = 1.0) -> None:
        super().__init__()
        if loss_type not in LOSS_TYPES:
            raise ValueError(
                f'QualityLoss: unknown loss_type {loss_type!r}; choose from {list(LOSS_TYPES)}'
            )
        self.loss_type = loss_type
        if loss_weight < 0:
            raise ValueError(f'QualityLoss: loss_weight must be >= 0, got {loss_weight}')
        self.loss_weight = loss_weight

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Optional[Tensor] = None,
        avg_factor: Optional[Tensor] = None,
        reduction_override: Optional[str] = None,
    ) -> Tensor:
        """(M,) logits and IoU targets to the loss, in MMDetection's way."""
        if self.loss_type == 'bce':
            loss = F.binary_cross_entropy_with_logits(pred, target, reduction='none')
        elif self.loss_type == 'l1':
            loss = F.l1_loss(pred.sigmoid(), target, reduction='none')
        else:
            loss = F.mse_loss(pred.sigmoid(), target, reduction='none')
        return self.loss_weight * weight_reduce_loss(
            loss, weight, reduction_override or 'mean', avg_factor
        )
