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
    corners = boxes.unflatten(-1, (2, 2))
    sides = corners[..., 1, :] - corners[..., 0, :]
    centre = torch.add(corners.mean(-2), sides * deltas[..., :2], alpha=_CENTRE_WEIGHT)
    sides = sides * deltas[..., 2:].clamp(max=_LARGEST).exp()
    ends = torch.arange(-0.5, 1.0, dtype=boxes.dtype, device=boxes.device)[:, None]
    return torch.addcmul(centre[..., None, :], sides[..., None, :], ends).flatten(-2)
