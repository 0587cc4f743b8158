"""Attention between objects against the overlap of objects."""
from typing import List

import torch
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData
from torch import Tensor, nn

from ..registry import MODELS
from .matcher import Match

NORMS = ('row', 'none')


@MODELS.register_module()
class TopologyLoss(nn.Module):
    """Squared error of the last stage's attention between objects.

    An object is represented by its cheapest matched proposal; the target is 1
    for two objects with IoU above ``iou_thr``; diagonals are zero. The sum
    over all ordered pairs of all images is divided by their number.

    Args:
        iou_thr (float): Defaults to 0.1.
        norm (str): ``row`` normalises the rows of both matrices, ``none``
            neither.
        loss_weight (float): Defaults to 1.

    Raises:
        ValueError: If ``norm`` is unknown.
    """

    def __init__(self,
                 iou_thr: float = 0.1,
                 norm: str = 'row',
                 loss_weight: float = 1.0) -> None:
        super().__init__()
        if norm not in NORMS:
            raise ValueError(f'TopologyLoss: unknown norm {norm!r}; '
                             f'choose from {list(NORMS)}')
        self.iou_thr = iou_thr
        self.norm = norm
        if loss_weight < 0:
            raise ValueError('TopologyLoss: loss_weight must be >= 0, got '
                             f'{loss_weight}')
        self.loss_weight = loss_weight

    def forward(self, attention: Tensor, matches: List[Match],
                gt_instances: List[InstanceData]) -> Tensor:
        """(B, N, N) attention, averaged over heads, to a scalar."""
        total, pairs = attention.sum() * 0, 0
        for weights, match, gt in zip(attention, matches, gt_instances):
            served = match.best >= 0
            best, boxes = match.best[served], gt.bboxes[served]
            num = len(best)
            if num < 2:
                continue
            eye = torch.eye(num, dtype=torch.bool, device=boxes.device)
            target = (bbox_overlaps(boxes, boxes) > self.iou_thr).float()
            target = target.masked_fill(eye, 0)
            found = weights[best][:, best].masked_fill(eye, 0)
            if self.norm == 'row':
                target, found = _normalize(target), _normalize(found)
            total = total + (found - target).square().sum()
            pairs += num * (num - 1)
        return self.loss_weight * total / max(pairs, 1)


def _normalize(matrix: Tensor) -> Tensor:
    return matrix / matrix.sum(-1, keepdim=True).clamp(min=1e-6)
