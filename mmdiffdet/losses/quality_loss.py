"""The loss of the quality head."""

from typing import Optional

import torch.nn.functional as F
from mmdet.models.losses.utils import weight_reduce_loss
from torch import Tensor, nn

from ..registry import MODELS

LOSS_TYPES = ('bce', 'l1', 'mse')


@MODELS.register_module()
class QualityLoss(nn.Module):
    """Compare the predicted with the true IoU of matched proposals.

    Args:
        loss_type (str): ``bce`` of logits, or ``l1`` or ``mse`` of the sigmoid.
        loss_weight (float): Factor. Defaults to 1.

    Raises:
        ValueError: If ``loss_type`` is unknown or ``loss_weight`` negative.
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
        """The loss of (M,) logits and IoU targets, by MMDetection's interface."""
        if self.loss_type == 'bce':
            loss = F.binary_cross_entropy_with_logits(pred, target, reduction='none')
        else:
            distance = F.l1_loss if self.loss_type == 'l1' else F.mse_loss
            loss = distance(pred.sigmoid(), target, reduction='none')
        return self.loss_weight * weight_reduce_loss(
            loss, weight, reduction_override or 'mean', avg_factor
        )
