"""Boxes from the deltas that the network says."""

import math

import torch
from torch import Tensor

_CENTRE_WEIGHT = 0.5
_LARGEST = math.log(100000 / 16)  # of a side's logarithmic change


def apply_deltas(boxes: Tensor, deltas: Tensor) -> Tensor:
    """Move boxes and change their sides (R-CNN, arXiv 1311.2524, app. C).

    MMDetection's ``DeltaXYWHBBoxCoder`` with ``target_stds=(0.5, 0.5, 1, 1)``,
    written out: it copies these to the device in every call. Sides grow by a
    factor of at most 100000 / 16.

    Args:
        boxes (Tensor): (..., 4), xyxy in pixels.
        deltas (Tensor): (..., 4), the centre's movement in units of half a
            side, and the logarithms of the factors of the sides.

    Returns:
        Tensor: (..., 4), xyxy in pixels.
    """
    centre = (boxes[..., :2] + boxes[..., 2:]) * 0.5
    sides = boxes[..., 2:] - boxes[..., :2]
    centre = centre + sides * (deltas[..., :2] * _CENTRE_WEIGHT)
    half = sides * deltas[..., 2:].clamp(max=_LARGEST).exp() * 0.5
    return torch.cat([centre - half, centre + half], -1)
