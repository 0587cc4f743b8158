"""Boxes as inputs of small networks."""

import torch
from mmdet.structures.bbox import bbox_overlaps
from torch import Tensor

_UNIT = 1000.0  # pixels; keeps inputs near 1 at the usual image sizes


def full_precision(like: Tensor) -> torch.autocast:
    """No autocast: in bfloat16 a coordinate of 800 px is off by pixels."""
    return torch.autocast(like.device.type, enabled=False)


def box_sides(boxes: Tensor) -> Tensor:
    """(..., 4) xyxy to (..., 2) width and height, at least 1e-6 pixels."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=1e-6)


def box_vector(boxes: Tensor, use_log_wh: bool = True) -> Tensor:
    """(..., 4) xyxy in pixels to (..., 4) centre and (log) sides.

    Units are 1000 pixels; sides are ln(w / 1000 + 1e-6) or w / 1000.
    """
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2 / _UNIT
    sides = box_sides(boxes) / _UNIT
    if use_log_wh:
        sides = (sides + 1e-6).log()
    return torch.cat([centre, sides], -1)


def pair_vector(boxes: Tensor, use_log_wh: bool = True, include_iou: bool = False) -> Tensor:
    """(B, N, 4) boxes to (B, N, N, 4 or 5) v_i - v_j and IoU of i and j."""
    v = box_vector(boxes, use_log_wh)
    pairs = v[:, :, None] - v[:, None]
    if include_iou:
        pairs = torch.cat([pairs, pairwise_iou(boxes)[..., None]], -1)
    return pairs


def pairwise_iou(boxes: Tensor) -> Tensor:
    """(B, N, 4) to (B, N, N) IoU of the boxes of an image."""
    return bbox_overlaps(boxes, boxes)
