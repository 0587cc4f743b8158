"""The losses of the head's outputs."""

from typing import Dict, List, Optional

import torch
from mmdet.models.losses import QualityFocalLoss
from mmdet.utils import reduce_mean
from mmengine.structures import InstanceData
from torch import Tensor, nn

from ..diffusion.box_codec import image_scale
from ..models.structures import HeadOutput
from ..registry import MODELS, TASK_UTILS
from .assigner import IGNORED, Assignment, assign, check_assigner
from .boxes import box_overlaps
from .objects import PaddedObjects


@MODELS.register_module()
class DiffusionDetCriterion(nn.Module):
    """Assign objects to the outputs of each stage separately and compute losses.

    A loss is a sum over the batch divided by the number of the stage's
    matched proposals, averaged over processes (DiffusionDet, arXiv
    2211.09788, sec. 3.3); ``loss_topology`` is of the last stage alone and a mean
    over pairs of objects. All stages and images are computed at once, over
    all proposals and with zeros for those without an object, so that no size
    depends on values that a GPU holds. Memory grows with the largest number
    of objects of an image of the batch.

    Args:
        num_classes (int): K.
        assigner (dict): ``DynamicKAssigner``, or an assigner of MMDetection
            such as ``HungarianAssigner``.
        loss_cls (dict): A loss of MMDetection that takes dense targets of the
            shape of the logits: ``FocalLoss``, or ``QualityFocalLoss`` whose
            target is the IoU of prediction and object.
        loss_bbox (dict): The loss of boxes xyxy normalised by the image's size.
        loss_iou (dict): The loss of boxes xyxy in pixels, logged as ``loss_giou``.
        loss_quality (dict, optional): ``QualityLoss``, for ``QualityHead``.
        loss_topology (dict, optional): ``TopologyLoss``.
        federated (dict, optional): ``FederatedClasses``.
        iou_weight_power (float): p > 0 weighs the two box losses of a pair
            with (IoU + 1e-3) ** p.

    Raises:
        ValueError: If a loss weight or ``iou_weight_power`` is negative,
            class frequencies are not one a class, or the assigner does not
            fit.
    """

    def __init__(
        self,
        num_classes: int,
        assigner: dict,
        loss_cls: dict,
        loss_bbox: dict,
        loss_iou: dict,
        loss_quality: Optional[dict] = None,
        loss_topology: Optional[dict] = None,
        federated: Optional[dict] = None,
        iou_weight_power: float = 0.0,
    ) -> None:
        super().__init__()
        if iou_weight_power < 0:
            raise ValueError(f'criterion: iou_weight_power must be >= 0, got {iou_weight_power}')
        for name, cfg in dict(
            loss_cls=loss_cls,
            loss_bbox=loss_bbox,
            loss_iou=loss_iou,
            loss_quality=loss_quality,
            loss_topology=loss_topology,
        ).items():
            weight = cfg.get('loss_weight', 1.0) if cfg else 0
            if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not weight >= 0:
                raise ValueError(f'criterion: {name}.loss_weight must be >= 0, got {weight!r}')
        self.num_classes = num_classes
        self.assigner = TASK_UTILS.build(assigner)
        check_assigner(self.assigner)
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

    def forward(
        self,
        output: HeadOutput,
        gt_instances: List[InstanceData],
        image_sizes: Tensor,
        labelled: Optional[Tensor] = None,
    ) -> Dict[str, Tensor]:
        """Losses by name; a stage before the last has the prefix ``s{i}.``.

        Args:
            output (HeadOutput): Of all stages.
            gt_instances (list[InstanceData]): ``labels`` (G,) and ``bboxes``
                (G, 4) xyxy in pixels of each image. With ``scores`` (G,) they
                are soft objects: the class target is the score in place of 1,
                and the losses of boxes are weighted with it.
            image_sizes (Tensor): (B, 2), height and width without padding.
            labelled (Tensor, optional): (B,) bool, whether it is known what an
                image shows; one that is not has no objects and no background.
        """
        objects = PaddedObjects.pad(gt_instances)
        logits, boxes = output.logits.float(), output.boxes
        assignment = assign(self.assigner, logits, boxes, objects, image_sizes)
        if labelled is not None:
            assignment.index = assignment.index.where(labelled[:, None], IGNORED)
        matched = assignment.index >= 0
        images = torch.arange(boxes.size(1), device=boxes.device)[:, None]
        of = assignment.index.clamp(min=0)
        target = objects.boxes[images, of]
        # others get their target: no loss, no gradient, nothing infinite
        found = torch.where(matched[..., None], boxes, target)
        iou = box_overlaps(found.detach(), target)[0]
        score = None if objects.scores is None else objects.scores[images, of]
        count = reduce_mean(matched.flatten(1).sum(1).float()).clamp(min=1)

        losses = dict(
            loss_cls=self._classification(
                logits, assignment, objects.labels[images, of], iou, score, objects
            )
        )
        weight = matched.float()
        if score is not None:
            weight = weight * score
        if self.iou_weight_power > 0:
            weight = weight * (iou + 1e-3) ** self.iou_weight_power
        scale = image_scale(image_sizes)
        losses['loss_bbox'] = weight[..., None] * self._each(
            self.loss_bbox, found / scale, target / scale
        )
        losses['loss_giou'] = weight * self._each(self.loss_iou, found, target)
        if self.loss_quality is not None:
            if 'quality' not in output.extras:
                raise ValueError("loss_quality needs a QualityHead among the stage's output_parts")
            losses['loss_quality'] = (matched if score is None else matched * score) * self._each(
                self.loss_quality, output.extras['quality'].float(), iou
            )
        last = len(logits) - 1
        result = {}
        for name, loss in losses.items():
            for i, value in enumerate((loss.flatten(1).sum(1) / count).unbind()):
                result[name if i == last else f's{i}.{name}'] = value
        if self.loss_topology is not None:
            cost = assignment.cost
            result['loss_topology'] = self.loss_topology(
                output.attention.float(),
                boxes[-1],
                assignment.index[-1],
                None if cost is None else cost[-1],
                objects,
            )
        return result

    def _classification(
        self,
        logits: Tensor,
        assignment: Assignment,
        labels: Tensor,
        iou: Tensor,
        score: Optional[Tensor],
        objects: PaddedObjects,
    ) -> Tensor:
        """(S, B, N, ...) loss of the classes that count."""
        counted = (assignment.index != IGNORED)[..., None]
        if self.federated is None:
            classes = torch.arange(self.num_classes, device=logits.device)
        else:
            classes, chosen = self.federated(objects.labels, self.num_classes)
            logits = logits[..., classes]
            counted = counted & chosen
        target = (labels[..., None] == classes) & (assignment.index >= 0)[..., None]
        target = target.to(logits)
        if isinstance(self.loss_cls, QualityFocalLoss):
            target = target * iou[..., None]
        if score is not None:
            target = target * score[..., None]
        return counted * self._each(self.loss_cls, logits, target)

    def _each(self, loss: nn.Module, pred: Tensor, target: Tensor) -> Tensor:
        """Loss of each element of (S, B, N, ...) tensors."""
        value = loss(pred.flatten(0, 2), target.flatten(0, 2), reduction_override='none')
        return value.view(*pred.shape[:3], *value.shape[1:])
