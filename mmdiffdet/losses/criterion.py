"""Losses of a head's outputs."""
from typing import Dict, List, Optional

import torch
from mmdet.models.losses import QualityFocalLoss
from mmdet.structures.bbox import bbox_overlaps
from mmdet.utils import reduce_mean
from mmengine.structures import InstanceData
from torch import Tensor, nn

from ..models.structures import HeadOutput
from ..registry import MODELS, TASK_UTILS
from .matcher import Match


@MODELS.register_module()
class DiffusionDetCriterion(nn.Module):
    """Match each stage's outputs on their own and compute its losses.

    All losses are sums over the batch divided by its number of matched
    proposals (DiffusionDet, arXiv 2211.09788, sec. 3.3).

    Args:
        num_classes (int): K.
        matcher (dict): E.g. ``DynamicKMatcher``.
        loss_cls (dict): ``mmdet.FocalLoss``, or ``mmdet.QualityFocalLoss``
            whose target is the IoU of prediction and object.
        loss_bbox (dict): On xyxy normalised by the image.
        loss_iou (dict): On xyxy in pixels.
        loss_quality (dict, optional): ``QualityLoss``, for ``QualityHead``.
        loss_topology (dict, optional): ``TopologyLoss``.
        federated (dict, optional): ``FederatedClasses``.
        iou_weight_power (float): p > 0 weighs the two box losses of a pair
            with (IoU + 1e-3) ** p.

    Raises:
        ValueError: If a loss weight or ``iou_weight_power`` is negative, or
            class frequencies are not one a class.
    """

    def __init__(self,
                 num_classes: int,
                 matcher: dict,
                 loss_cls: dict,
                 loss_bbox: dict,
                 loss_iou: dict,
                 loss_quality: Optional[dict] = None,
                 loss_topology: Optional[dict] = None,
                 federated: Optional[dict] = None,
                 iou_weight_power: float = 0.0) -> None:
        super().__init__()
        if iou_weight_power < 0:
            raise ValueError('criterion: iou_weight_power must be >= 0, '
                             f'got {iou_weight_power}')
        for name, cfg in dict(
                loss_cls=loss_cls,
                loss_bbox=loss_bbox,
                loss_iou=loss_iou,
                loss_quality=loss_quality,
                loss_topology=loss_topology).items():
            if cfg and cfg.get('loss_weight', 1.0) < 0:
                raise ValueError(f'criterion: {name}.loss_weight must be >= 0,'
                                 f' got {cfg["loss_weight"]}')
        self.num_classes = num_classes
        self.matcher = TASK_UTILS.build(matcher)
        self.loss_cls = MODELS.build(loss_cls)
        self.loss_bbox = MODELS.build(loss_bbox)
        self.loss_iou = MODELS.build(loss_iou)
        self.loss_quality = loss_quality and MODELS.build(loss_quality)
        self.loss_topology = loss_topology and MODELS.build(loss_topology)
        self.federated = federated and TASK_UTILS.build(federated)
        if self.federated is not None:
            self.federated.check(num_classes)
        self.iou_weight_power = iou_weight_power

    @property
    def needs_attention(self) -> bool:
        """Whether the head's output must have attention weights."""
        return self.loss_topology is not None

    def forward(self, output: HeadOutput, gt_instances: List[InstanceData],
                img_metas: List[dict]) -> Dict[str, Tensor]:
        """Losses by name; a stage before the last has the prefix ``s{i}.``.

        Args:
            output (HeadOutput): Of all stages.
            gt_instances (list[InstanceData]): ``labels`` (G,) and ``bboxes``
                (G, 4) xyxy in pixels of each image.
            img_metas (list[dict]): With ``img_shape`` (height, width).
        """
        losses = {}
        last = len(output.logits) - 1
        for i in range(last + 1):
            prefix = '' if i == last else f's{i}.'
            logits, boxes = output.logits[i].float(), output.boxes[i]
            matches = self.match(logits, boxes, gt_instances, img_metas)
            quality = output.extras.get('quality')
            stage = self._stage_losses(
                logits, boxes, None if quality is None else quality[i].float(),
                matches, gt_instances, img_metas)
            losses.update({prefix + k: v for k, v in stage.items()})
            if i == last and self.loss_topology is not None:
                losses['loss_topology'] = self.loss_topology(
                    output.attention.float(), matches, gt_instances)
        return losses

    def match(self, logits: Tensor, boxes: Tensor,
              gt_instances: List[InstanceData],
              img_metas: List[dict]) -> List[Match]:
        """Match (B, N, K) logits and (B, N, 4) boxes, image by image."""
        return [
            self.matcher(InstanceData(scores=s, bboxes=b), gt, meta)
            for s, b, gt, meta in zip(logits.detach(), boxes.detach(),
                                      gt_instances, img_metas)
        ]

    def _stage_losses(self, logits: Tensor, boxes: Tensor,
                      quality: Optional[Tensor], matches: List[Match],
                      gt_instances: List[InstanceData],
                      img_metas: List[dict]) -> Dict[str, Tensor]:
        image, proposal, target, labels, factor = _pairs(
            matches, gt_instances, img_metas)
        found = boxes[image, proposal]
        iou = bbox_overlaps(found.detach(), target, is_aligned=True)
        count = reduce_mean(found.new_tensor(float(len(found)))).clamp(min=1)

        losses = dict(
            loss_cls=self._classification(logits, image, proposal, labels, iou,
                                          count))
        weight = None
        if self.iou_weight_power > 0:
            weight = (iou + 1e-3)**self.iou_weight_power
        losses['loss_bbox'] = self.loss_bbox(
            found / factor,
            target / factor,
            weight=None if weight is None else weight[:, None].expand(-1, 4),
            avg_factor=count)
        losses['loss_giou'] = self.loss_iou(
            found, target, weight=weight, avg_factor=count)
        if self.loss_quality is not None:
            if quality is None:
                raise ValueError("loss_quality needs a QualityHead among the "
                                 "stage's output_parts")
            losses['loss_quality'] = self.loss_quality(
                quality[image, proposal], iou, count)
        return losses

    def _classification(self, logits: Tensor, image: Tensor, proposal: Tensor,
                        labels: Tensor, iou: Tensor, count: Tensor) -> Tensor:
        num_classes = self.num_classes
        if self.federated is not None:
            # other classes' columns do not exist for this batch
            classes = self.federated(labels, num_classes)
            logits = logits[..., classes]
            labels = torch.searchsorted(classes, labels)
            num_classes = len(classes)
        target = torch.full(
            logits.shape[:2], num_classes, device=logits.device)
        target[image, proposal] = labels
        if isinstance(self.loss_cls, QualityFocalLoss):
            score = torch.zeros_like(target, dtype=logits.dtype)
            score[image, proposal] = iou
            target = (target.flatten(), score.flatten())
        else:
            target = target.flatten()
        return self.loss_cls(logits.flatten(0, 1), target, avg_factor=count)


def _pairs(matches: List[Match], gt_instances: List[InstanceData],
           img_metas: List[dict]) -> tuple:
    """Matched pairs of all images.

    Returns:
        tuple: image (M,), proposal (M,), object's box (M, 4), its label (M,),
        and (w, h, w, h) of the image (M, 4).
    """
    images, proposals, boxes, labels, factors = [], [], [], [], []
    for i, (match, gt, meta) in enumerate(
            zip(matches, gt_instances, img_metas)):
        proposal = (match.assigned >= 0).nonzero().squeeze(1)
        index = match.assigned[proposal]
        height, width = meta['img_shape'][:2]
        images.append(torch.full_like(proposal, i))
        proposals.append(proposal)
        boxes.append(gt.bboxes[index])
        labels.append(gt.labels[index])
        factors.append(
            gt.bboxes.new_tensor([width, height, width,
                                  height]).expand(len(index), 4))
    return tuple(
        torch.cat(x) for x in (images, proposals, boxes, labels, factors))
