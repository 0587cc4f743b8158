"""Predictions to detections."""

from typing import List, Optional, Tuple

import torch
from mmcv.ops import nms as hard_nms
from mmcv.ops import soft_nms
from mmengine.structures import InstanceData
from torch import Tensor

from ..diffusion.prediction import Prediction

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
    if score_thr > 0:
        keep = scores > score_thr
        boxes, scores, labels = boxes[keep], scores[keep], labels[keep]
    if nms is not None:
        boxes, scores, labels = _class_wise_nms(boxes, scores, labels, nms)
    order = scores.argsort(descending=True, stable=True)
    boxes, scores, labels = boxes[order], scores[order], labels[order]
    height, width = img_meta['img_shape'][:2]
    boxes = torch.stack(
        [
            boxes[:, 0].clamp(0, width),
            boxes[:, 1].clamp(0, height),
            boxes[:, 2].clamp(0, width),
            boxes[:, 3].clamp(0, height),
        ],
        -1,
    )
    if rescale and 'scale_factor' in img_meta:
        boxes = boxes / boxes.new_tensor(img_meta['scale_factor']).repeat(2)
    visible = (boxes[:, 2:] > boxes[:, :2]).all(-1)
    limit = max_per_img if max_per_img > 0 else len(boxes)
    return InstanceData(
        bboxes=boxes[visible][:limit],
        scores=scores[visible][:limit],
        labels=labels[visible][:limit],
    )


def check_nms(nms: Optional[dict]) -> None:
    """Raise ValueError unless :func:`merge` knows this NMS."""
    if nms is None:
        return
    if nms.get('type', 'nms') not in _NMS or 'class_agnostic' in nms:
        raise ValueError(
            f'model.test_cfg.nms: {dict(nms)} is not supported; type must be '
            f'one of {list(_NMS)}, and NMS is within a class'
        )


def _class_wise_nms(
    boxes: Tensor, scores: Tensor, labels: Tensor, nms: dict
) -> Tuple[Tensor, Tensor, Tensor]:
    """NMS of each class on its own.

    Not ``batched_nms``: its offsets by class take boxes for non-negative and
    cost precision, and ours reach over the image's border.
    """
    nms = dict(nms)
    operator = _NMS[nms.pop('type', 'nms')]
    kept = []
    for label in labels.unique():
        index = (labels == label).nonzero().squeeze(1)
        found, keep = operator(boxes[index], scores[index], **nms)
        kept.append((found[:, :4], found[:, 4], labels[index][keep]))
    if not kept:
        return boxes, scores, labels
    return tuple(torch.cat(parts) for parts in zip(*kept))


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
