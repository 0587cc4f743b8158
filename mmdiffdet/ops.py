"""The operators of MMCV that this package needs, in plain PyTorch.

It is imported as ``mmcv._ext`` where MMCV was installed without compiled
operators, see :mod:`mmdiffdet.ops_finder`. Functions have the arguments and
results of MMCV's extension, which MMCV's own Python code calls; those that are
missing say so when they are called.
"""

from typing import Any, Callable, Tuple

import torch
from torch import Tensor


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """Greedy non-maximum suppression: indices of the boxes that stay, best first.

    ``boxes`` (N, 4) are xyxy, ``scores`` (N,); a box goes if its IoU with a better one
    that stays is above the threshold. ``offset``, 0 or 1, is added to each side.
    """
    from mmdiffdet.nms import grouped_nms

    one_group = torch.zeros(len(boxes), dtype=torch.long, device=boxes.device)
    stay = grouped_nms(boxes, scores, one_group, iou_threshold, offset)
    order = scores.argsort(descending=True, stable=True)
    return order[stay[order]]


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
    """Soft NMS (arXiv 1704.04503), in which boxes that overlap better ones lose score.

    ``boxes`` (N, 4) are xyxy, ``scores`` (N,); the boxes that stay and their new scores
    are written to ``dets`` (N, 5), best first, and their indices returned. ``method`` is 0
    ``naive``, 1 ``linear`` (both above ``iou_threshold``) or 2 ``gaussian`` (of
    ``sigma``); boxes below ``min_score`` go. ``offset``, 0 or 1, is added to each side.
    """
    from mmdiffdet.nms import overlaps

    scores = scores.clone()
    left = torch.ones_like(scores, dtype=torch.bool)
    found = []
    while left.any():
        best = int(scores.masked_fill(~left, -torch.inf).argmax())
        dets[len(found), :4], dets[len(found), 4] = boxes[best], scores[best]
        found.append(best)
        left[best] = False
        iou = overlaps(boxes[best : best + 1].T, boxes.T, offset)[0].nan_to_num(0.0)
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


def _message(what: str) -> str:
    return (
        f'{what} needs the compiled operators of MMCV: pip install --no-build-isolation '
        '--no-cache-dir --force-reinstall --no-deps onedl-mmcv (with a C++ compiler; '
        'minutes), or OPERATORS=1 make venv'
    )


def __getattr__(name: str) -> Callable[..., Tuple]:
    """Any other operator, which raises when it is called, so that MMCV can be imported."""
    if name.startswith('__'):
        raise AttributeError(name)

    def missing(*args: Any, **kwargs: Any) -> Tuple:
        raise NotImplementedError(_message(f'mmcv._ext.{name}'))

    return missing
