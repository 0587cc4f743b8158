"""Operators of MMCV in plain PyTorch, as far as this package calls them.

It is imported as ``mmcv._ext`` where MMCV was installed without compiled
operators, see :mod:`mmdiffdet.ops_finder`. Functions have the arguments and
results of MMCV's extension, which MMCV's own Python code calls; those that are
missing say so when they are called.
"""

from typing import Any, Callable, Tuple

import torch
from torch import Tensor

_BLOCK = 256
"""Boxes that are compared with each other at a time."""


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """Greedy non-maximum suppression.

    Args:
        boxes (Tensor): (N, 4), xyxy.
        scores (Tensor): (N,).
        iou_threshold (float): A box goes if its IoU with a better one that
            stays is above this.
        offset (int): Added to each side, 0 or 1.

    Returns:
        Tensor: Indices of the boxes that stay, best first.
    """
    order = scores.argsort(descending=True, stable=True)
    sides = boxes[order].T.contiguous()
    kept, stays = sides[:, :0], []
    for block in sides.split(_BLOCK, dim=1):
        alive = ~(_overlaps(kept, block, offset) > iou_threshold).any(0)
        # row i suppresses column j > i, if i itself stays
        suppresses = (_overlaps(block, block, offset) > iou_threshold).triu_(1).float()
        stay = alive
        while True:  # the i-th box is decided after i rounds at the latest
            before = stay
            stay = alive & ~(before.float() @ suppresses).bool()
            if torch.equal(stay, before):
                break
        kept = torch.cat([kept, block[:, stay]], 1)
        stays.append(stay)
    return order[torch.cat(stays)] if stays else order


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int = 0,
) -> Tensor:
    """Soft NMS (arXiv 1704.04503): overlapping boxes lose score.

    Args:
        boxes (Tensor): (N, 4), xyxy.
        scores (Tensor): (N,).
        dets (Tensor): (N, 5) to write the boxes that stay and their new
            scores to, best first.
        iou_threshold (float): Above it a box loses score (not ``gaussian``).
        sigma (float): Of ``gaussian``.
        min_score (float): Boxes below it go.
        method (int): 0 ``naive``, 1 ``linear``, 2 ``gaussian``.
        offset (int): Added to each side, 0 or 1.

    Returns:
        Tensor: Indices of the boxes that stay, best first.
    """
    scores = scores.clone()
    left = torch.ones_like(scores, dtype=torch.bool)
    found = []
    while left.any():
        best = int(scores.masked_fill(~left, -torch.inf).argmax())
        dets[len(found), :4], dets[len(found), 4] = boxes[best], scores[best]
        found.append(best)
        left[best] = False
        iou = _overlaps(boxes[best : best + 1].T, boxes.T, offset)[0].nan_to_num(0.0)
        if method == 2:
            weight = torch.exp(-(iou**2) / sigma)
        else:
            weight = torch.where(iou > iou_threshold, 1 - iou if method == 1 else 0.0, 1.0)
        scores = torch.where(left, scores * weight, scores)
        left &= scores >= min_score
    return torch.tensor(found, dtype=torch.long)


def roi_align_forward(
    input: Tensor, rois: Tensor, output: Tensor, argmax_y: Tensor, argmax_x: Tensor, **options: Any
) -> None:
    """RoIAlign with ``aligned=True`` and a fixed sampling ratio, written to ``output``."""
    output.copy_(_extractor(input, options)([input], rois))


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    **options: Any,
) -> None:
    """Gradient of :func:`roi_align_forward`, written to ``grad_input``."""
    with torch.enable_grad():
        maps = torch.zeros_like(grad_input, requires_grad=True)
        pooled = _extractor(maps, options)([maps], rois)
        grad_input.copy_(torch.autograd.grad(pooled, maps, grad_output)[0])


def _extractor(maps: Tensor, options: Any) -> Callable[[Any, Tensor], Tensor]:
    from mmdiffdet.models.roi_gather import GatherRoIExtractor

    size, ratio = options['aligned_height'], options['sampling_ratio']
    if size != options['aligned_width'] or ratio < 1 or not options['aligned']:
        raise NotImplementedError(
            _message('roi_align other than square, aligned, with a sampling_ratio of at least 1')
        )
    if options['pool_mode'] != 1:
        raise NotImplementedError(_message('roi_align with pool_mode max'))
    return GatherRoIExtractor(
        maps.size(1), [1 / options['spatial_scale']], output_size=size, sampling_ratio=ratio
    )


def _overlaps(a: Tensor, b: Tensor, offset: int) -> Tensor:
    """(4, N) and (4, M) sides of boxes to (N, M) IoU, rounded as MMCV's; NaN of 0 / 0."""

    def shared(low: int, high: int) -> Tensor:
        length = torch.minimum(a[high, :, None], b[high])
        return length.sub_(torch.maximum(a[low, :, None], b[low])).add_(offset).clamp_(min=0)

    area_a, area_b = ((x[2] - x[0] + offset) * (x[3] - x[1] + offset) for x in (a, b))
    both = shared(0, 2).mul_(shared(1, 3))
    return both / (area_a[:, None] + area_b).sub_(both)


def _message(what: str) -> str:
    return (
        f'{what} needs the compiled operators of MMCV: pip install --no-build-isolation '
        '--no-cache-dir --force-reinstall --no-deps onedl-mmcv (with a C++ compiler; '
        'minutes), or OPERATORS=1 make venv'
    )


def __getattr__(name: str) -> Callable[..., Tuple]:
    """Any other operator: there, so that MMCV can be imported."""
    if name.startswith('__'):
        raise AttributeError(name)

    def missing(*args: Any, **kwargs: Any) -> Tuple:
        raise NotImplementedError(_message(f'mmcv._ext.{name}'))

    return missing
