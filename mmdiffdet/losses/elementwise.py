"""Losses of MMDetection, without the operations that make the host wait for a GPU."""

from typing import Optional, Tuple, Union

import torch
import torch.nn.functional as F
from mmdet.models import losses
from mmdet.models.losses.utils import weight_reduce_loss
from torch import Tensor

from ..registry import MODELS
from .boxes import box_overlaps


@MODELS.register_module()
class GIoULoss(losses.GIoULoss):
    """1 - GIoU (arXiv 1902.09630), with MMDetection's arguments and values.

    MMDetection's looks whether any weight is positive and copies a constant
    to the GPU.
    """

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Optional[Tensor] = None,
        avg_factor: Optional[Tensor] = None,
        reduction_override: Optional[str] = None,
    ) -> Tensor:
        """The loss of (M, 4) boxes, xyxy in pixels; MMDetection's with weights or in float16."""
        if weight is not None or pred.dtype == torch.float16:
            return super().forward(pred, target, weight, avg_factor, reduction_override)
        loss = 1 - box_overlaps(pred, target, self.eps)[1]
        return self.loss_weight * weight_reduce_loss(
            loss, None, reduction_override or self.reduction, avg_factor
        )


@MODELS.register_module()
class QualityFocalLoss(losses.QualityFocalLoss):
    """Quality focal loss (arXiv 2006.04388, eq. 2) for dense soft targets.

    The values are MMDetection's, which picks the positive targets by a mask.
    """

    def forward(
        self,
        pred: Tensor,
        target: Union[Tensor, Tuple[Tensor, Tensor]],
        weight: Optional[Tensor] = None,
        avg_factor: Optional[Tensor] = None,
        reduction_override: Optional[str] = None,
    ) -> Tensor:
        """The loss of (M, K) logits and targets in [0, 1].

        A target of labels (M,) and their IoUs (M,), or ``activated`` predictions, are
        left to MMDetection's code.
        """
        if self.activated or not isinstance(target, Tensor):
            return super().forward(pred, target, weight, avg_factor, reduction_override)
        distance = (target - pred.sigmoid()).abs()
        loss = distance.pow(self.beta) * F.binary_cross_entropy_with_logits(
            pred, target, reduction='none'
        )
        return self.loss_weight * weight_reduce_loss(
            loss, weight, reduction_override or self.reduction, avg_factor
        )
