"""A loss that compares the attention between objects with their overlap."""

from typing import Optional

import torch
from mmdet.utils import reduce_mean
from torch import Tensor, nn

from ..registry import MODELS
from .boxes import box_overlaps
from .objects import PaddedObjects

NORMS = ('row', 'none')


@MODELS.register_module()
class TopologyLoss(nn.Module):
    """Squared error of the last stage's attention between objects.

    An object is represented by its cheapest matched proposal; the target is 1
    for two objects with IoU above ``iou_thr``; diagonals are zero. The sum
    over all ordered pairs of all images is divided by their number.

    Args:
        iou_thr (float): IoU from which two objects are neighbours. Defaults to 0.1.
        norm (str): ``row`` normalises the rows of both matrices, ``none`` leaves them.
        loss_weight (float): Factor. Defaults to 1.

    Raises:
        ValueError: If ``norm`` is unknown or ``loss_weight`` negative.
    """

    def __init__(self, iou_thr: float = 0.1, norm: str = 'row', loss_weight: float = 1.0) -> None:
        super().__init__()
        if norm not in NORMS:
            raise ValueError(f'TopologyLoss: unknown norm {norm!r}; choose from {list(NORMS)}')
        self.iou_thr = iou_thr
        self.norm = norm
        if loss_weight < 0:
            raise ValueError(f'TopologyLoss: loss_weight must be >= 0, got {loss_weight}')
        self.loss_weight = loss_weight

    def forward(
        self,
        attention: Tensor,
        boxes: Tensor,
        index: Tensor,
        cost: Optional[Tensor],
        objects: PaddedObjects,
    ) -> Tensor:
        """The loss of one stage, a scalar.

        ``attention`` (B, N, N) is averaged over heads, ``boxes`` (B, N, 4) are predicted,
        xyxy in pixels, ``index`` (B, N) is the object of each proposal, or negative.
        Without the assigner's ``cost`` (B, G, N), the cheapest proposal of an object is
        that of the largest IoU.
        """
        if cost is None:
            cost = -box_overlaps(objects.boxes[:, :, None], boxes.detach()[:, None])[0]
        num = cost.size(1)
        numbers = torch.arange(num, device=index.device)
        mine = index[:, None] == numbers[:, None]
        served = mine.any(-1)
        best = cost.masked_fill(~mine, torch.inf).argmin(-1)
        pairs = served[:, :, None] & served[:, None] & (numbers != numbers[:, None])
        overlap = box_overlaps(objects.boxes[:, :, None], objects.boxes[:, None])[0]
        target = ((overlap > self.iou_thr) & pairs).to(attention)
        found = attention.gather(1, best[..., None].expand(-1, -1, attention.size(-1)))
        found = found.gather(2, best[:, None].expand(-1, num, -1)) * pairs
        if self.norm == 'row':
            target, found = _normalize(target), _normalize(found)
        # the number of pairs in the batch, averaged over processes as in the criterion
        count = reduce_mean(pairs.sum().float()).clamp(min=1)
        return self.loss_weight * (found - target).square().sum() / count


def _normalize(matrix: Tensor) -> Tensor:
    return matrix / matrix.sum(-1, keepdim=True).clamp(min=1e-6)
