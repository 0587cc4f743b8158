"""Overlap of boxes, without a tensor that is made on the CPU on the way."""

from typing import Tuple

import torch
from torch import Tensor


def box_overlaps(a: Tensor, b: Tensor, eps: float = 1e-6) -> Tuple[Tensor, Tensor]:
    """IoU and generalised IoU (arXiv 1902.09630) of boxes that broadcast.

    The values are those of MMDetection's ``bbox_overlaps``, whose ``eps`` is
    a tensor that has to be copied to the GPU in each call.

    Args:
        a (Tensor): (..., 4), xyxy in pixels.
        b (Tensor): (..., 4), xyxy in pixels; ``a[:, None]`` and ``b[None]``
            give all pairs.
        eps (float): Smallest divisor, in square pixels.

    Returns:
        tuple[Tensor, Tensor]: IoU in [0, 1] and GIoU in (-1, 1].
    """
    size = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(
        min=0
    )
    overlap = size[..., 0] * size[..., 1]
    union = (_area(a) + _area(b) - overlap).clamp(min=eps)
    iou = overlap / union
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).clamp(
        min=0
    )
    hull = (hull[..., 0] * hull[..., 1]).clamp(min=eps)
    return iou, iou - (hull - union) / hull


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
