"""Overlap of boxes, computed without copying a constant to the GPU."""

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
    (a_low, a_high), (b_low, b_high) = a.split(2, -1), b.split(2, -1)
    overlap = _area((torch.minimum(a_high, b_high) - torch.maximum(a_low, b_low)).clamp(min=0))
    union = (_area(a_high - a_low) + _area(b_high - b_low) - overlap).clamp(min=eps)
    iou = overlap / union
    hull = _area((torch.maximum(a_high, b_high) - torch.minimum(a_low, b_low)).clamp(min=0))
    hull = hull.clamp(min=eps)
    return iou, iou - (hull - union) / hull


def _area(size: Tensor) -> Tensor:
    return size[..., 0] * size[..., 1]
