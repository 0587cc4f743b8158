"""Predictions to detections."""

from typing import Callable, List, Optional, Tuple

import torch
from mmcv.ops import nms as hard_nms
from mmcv.ops import soft_nms
from mmengine.structures import InstanceData
from torch import Tensor

from ..device import on_device
from ..diffusion.prediction import Prediction
from ..nms import grouped_nms

_NMS = dict(nms=hard_nms, soft_nms=soft_nms)


def candidates(prediction: Prediction, quality_power: float = 0.0) -> Tuple[Tensor, Tensor, Tensor]:
    """The N best (proposal, class) pairs of each image.

    Args:
        prediction (Prediction): Of N proposals.
        quality_power (float): Class scores are multiplied by
            sigmoid(quality) ** quality_power; 0 leaves them alone.

    Returns:
        tuple: Boxes (B, N, 4) xyxy in pixels, scores (B, N), labels (B, N).

    Raises:
        ValueError: If a power is given and the prediction has no quality.
    """
    scores = prediction.logits.float().sigmoid()
    if quality_power > 0:
        if prediction.quality is None:
            raise ValueError(
                "test_cfg.quality_power needs a QualityHead among the stage's output_parts"
            )
        quality = prediction.quality.float().sigmoid() ** quality_power
        scores = scores * quality[..., None]
    num, num_classes = scores.shape[1:]
    top, index = scores.flatten(1).topk(num, dim=1)
    proposal = index.div(num_classes, rounding_mode='floor')
    boxes = prediction.boxes.gather(1, proposal[..., None].expand(-1, -1, 4))
    return boxes, top, index % num_classes


def merge(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    img_meta: dict,
    nms: Optional[dict] = None,
    score_thr: float = 0.0,
    max_per_img: int = -1,
    rescale: bool = True,
) -> InstanceData:
    """Candidates of one image, of one step or several, to its detections.

    Args:
        boxes (Tensor): (M, 4), xyxy in pixels of the network's input.
        scores (Tensor): (M,).
        labels (Tensor): (M,) long.
        img_meta (dict): With ``img_shape`` and, to rescale, ``scale_factor``.
        nms (dict, optional): ``type`` ``nms`` or ``soft_nms`` of MMCV and
            its arguments; None merges nothing.
        score_thr (float): Only scores above it stay; 0 keeps all.
        max_per_img (int): Most detections, the best ones; -1 for all.
        rescale (bool): Whether boxes are returned in the original image.

    Returns:
        InstanceData: ``bboxes``, ``scores``, ``labels``, best score first.
    """
    good = scores > score_thr if score_thr > 0 else torch.ones_like(scores, dtype=torch.bool)
    order = torch.arange(len(scores), device=scores.device)
    if nms is not None:
        options = dict(nms)
        kind = options.pop('type', 'nms')
        if kind == 'nms' and set(options) <= {'iou_threshold', 'offset'}:
            good = good & grouped_nms(boxes, scores, labels, **options)
        else:  # what is left out before lowers nobody's score
            boxes, scores, labels = _class_by_class(
                boxes, scores, labels, good, _NMS[kind], options
            )
            good = torch.ones_like(scores, dtype=torch.bool)
        order = labels.argsort(stable=True)
    order = order[scores[order].argsort(descending=True, stable=True)]
    height, width = img_meta['img_shape'][:2]
    border = on_device([width, height, width, height], boxes.device, boxes.dtype)
    boxes = boxes.clamp(min=0).minimum(border)
    if rescale and 'scale_factor' in img_meta:
        boxes = boxes / on_device([*img_meta['scale_factor']] * 2, boxes.device, boxes.dtype)
    good = good & (boxes[:, 2:] > boxes[:, :2]).all(-1)
    index = order[good[order]]  # the host waits for their number
    if max_per_img > 0:
        index = index[:max_per_img]
    return InstanceData(bboxes=boxes[index], scores=scores[index], labels=labels[index])


def check_nms(nms: Optional[dict]) -> None:
    """Raise ValueError unless :func:`merge` knows this NMS."""
    if nms is None:
        return
    if nms.get('type', 'nms') not in _NMS or 'class_agnostic' in nms:
        raise ValueError(
            f'model.test_cfg.nms: {dict(nms)} is not supported; type must be '
            f'one of {list(_NMS)}, and NMS is within a class'
        )


def _class_by_class(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    good: Tensor,
    operator: Callable,
    options: dict,
) -> Tuple[Tensor, Tensor, Tensor]:
    """An operator of MMCV for each class on its own, of ``good`` boxes, on the host.

    Not ``batched_nms``: its offsets by class take boxes for non-negative and
    cost precision, and ours reach over the image's border.
    """
    device = boxes.device
    # one copy; labels are exact in float32
    columns = torch.cat([boxes, scores[:, None], labels[:, None], good[:, None]], 1).cpu()
    boxes, scores, labels, _ = columns[columns[:, 6] > 0].split([4, 1, 1, 1], 1)
    scores, labels = scores[:, 0], labels[:, 0].long()
    kept = []
    for label in labels.unique():
        index = (labels == label).nonzero().squeeze(1)
        found, keep = operator(boxes[index], scores[index], **options)
        kept.append((found[:, :4], found[:, 4], labels[index][keep]))
    if kept:
        boxes, scores, labels = (torch.cat(parts) for parts in zip(*kept))
    return tuple(on_device(x, device, x.dtype) for x in (boxes, scores, labels))


def merge_steps(
    steps: List[Prediction], img_metas: List[dict], quality_power: float, **kwargs
) -> List[InstanceData]:
    """Predictions of one or several steps to detections of each image.

    Args:
        steps (list[Prediction]): The predictions to merge.
        img_metas (list[dict]): B of them.
        quality_power (float): See :func:`candidates`.
        kwargs: See :func:`merge`.
    """
    pooled = [
        torch.cat(parts, dim=1) for parts in zip(*(candidates(p, quality_power) for p in steps))
    ]
    return [merge(*image, meta, **kwargs) for *image, meta in zip(*pooled, img_metas)]
