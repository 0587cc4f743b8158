"""Assign proposals to the objects that they are trained on."""

from dataclasses import dataclass
from typing import Optional, Tuple

import torch
from mmdet.models.task_modules import AssignResult, BaseAssigner, HungarianAssigner, MaxIoUAssigner
from mmengine.structures import InstanceData
from torch import Tensor

from ..diffusion.box_codec import image_scale
from ..registry import TASK_UTILS
from .boxes import box_overlaps
from .objects import PaddedObjects

BACKGROUND, IGNORED = -1, -2


@dataclass
class Assignment:
    """The object of each proposal, for all stages and images.

    Args:
        index (Tensor): (S, B, N) long, index of the object within its image,
            ``BACKGROUND`` or ``IGNORED`` (neither object nor background).
        cost (Tensor, optional): (S, B, G, N) matching cost of each object
            and proposal, if the assigner has one.
    """

    index: Tensor
    cost: Optional[Tensor] = None


def check_assigner(assigner: BaseAssigner) -> None:
    """Raise ValueError for an assigner of MMDetection that does not fit.

    Those for priors that are points, or for scores that are probabilities,
    would fail or assign nothing. An assigner of a user's own is trusted.
    """
    name = type(assigner).__name__
    if type(assigner).__module__.startswith('mmdet.') and not isinstance(
        assigner, (HungarianAssigner, MaxIoUAssigner)
    ):
        raise ValueError(
            f'criterion.assigner: {name} takes points or probabilities, and proposals are boxes '
            'with logits; use DynamicKAssigner, HungarianAssigner, MaxIoUAssigner or one of '
            'your own'
        )
    if getattr(assigner, 'ignore_iof_thr', -1) > 0:
        raise ValueError(
            f'criterion.assigner: {name}.ignore_iof_thr has no effect, as ignored objects do not '
            'reach the criterion; leave it out'
        )


def assign(
    assigner: BaseAssigner,
    logits: Tensor,
    boxes: Tensor,
    objects: PaddedObjects,
    image_sizes: Tensor,
) -> Assignment:
    """Assign with an assigner of MMDetection's interface.

    One that has ``assign_batch``, as :class:`DynamicKAssigner`, is called once, with
    the same arguments. Another one is called for each stage and image, see
    :func:`check_assigner`; its ``priors`` are the predicted boxes, ``scores``
    are logits.
    """
    logits, boxes = logits.detach(), boxes.detach()
    if hasattr(assigner, 'assign_batch'):
        return assigner.assign_batch(logits, boxes, objects, image_sizes)
    truth = [
        InstanceData(bboxes=b[v], labels=label[v])
        for b, label, v in zip(objects.boxes, objects.labels, objects.valid)
    ]
    metas = [dict(img_shape=tuple(size)) for size in image_sizes.tolist()]
    gt_inds = torch.stack(
        [
            assigner.assign(
                InstanceData(scores=scores, bboxes=found, priors=found), truth[i], img_meta=metas[i]
            ).gt_inds
            for stage in zip(logits, boxes)
            for i, (scores, found) in enumerate(zip(*stage))
        ]
    )
    # MMDetection counts objects from 1; 0 is background, -1 ignored
    index = torch.where(gt_inds < 0, IGNORED, gt_inds - 1)
    return Assignment(index.view(boxes.shape[:3]))


@TASK_UTILS.register_module()
class DynamicKAssigner(BaseAssigner):
    """Assign to each object its k cheapest proposals.

    This is SimOTA of YOLOX (arXiv 2107.08430, sec. 2.1) as DiffusionDet (arXiv
    2211.09788) uses it. The cost of a pair is that of the focal loss at the
    object's class, the L1 distance of the normalised boxes and the negative
    GIoU, weighted. k is the whole part of the sum of the object's
    ``candidate_topk`` best IoUs, at least 1. A proposal that several objects
    claim goes to the object, claimant or not, for which it is cheapest. Each object that is left
    without a proposal then names the cheapest one that is free, all at once;
    of several that name the same proposal the one that is listed first gets
    it, and the others stay without. Where none is free, each
    object that is left names the cheapest of all, which goes to the first
    listed of its present object and those that name it.

    All images and stages are assigned by a fixed number of tensor operations
    without a value that the host would have to wait for.

    Args:
        cls_weight, bbox_weight, giou_weight (float): Weights of the focal loss, the
            L1 distance and the GIoU in the cost.
        alpha, gamma (float): Parameters of the focal loss in the cost, whatever
            those of ``loss_cls`` are.
        candidate_topk (int): Number of IoUs that are summed for k.
        center_radius (float): The centre region reaches that many widths and
            heights of the object to each side of its centre.
        outside_cost (float): Added unless the proposal's centre lies in the
            object's box and in its centre region.
        background_cost (float): Added for proposals whose centre lies in no
            box and in no centre region.

    Raises:
        ValueError: If ``candidate_topk`` is below 1, ``alpha`` is not in
            [0, 1], or another number is negative or NaN.
    """

    def __init__(
        self,
        cls_weight: float = 2.0,
        bbox_weight: float = 5.0,
        giou_weight: float = 2.0,
        alpha: float = 0.25,
        gamma: float = 2.0,
        candidate_topk: int = 5,
        center_radius: float = 2.5,
        outside_cost: float = 100.0,
        background_cost: float = 10000.0,
    ) -> None:
        self.cls_weight = cls_weight
        self.bbox_weight = bbox_weight
        self.giou_weight = giou_weight
        self.gamma = gamma
        self.center_radius = center_radius
        self.outside_cost = outside_cost
        self.background_cost = background_cost
        for name, value in vars(self).items():
            if not value >= 0:
                raise ValueError(f'DynamicKAssigner: {name} must be >= 0, got {value}')
        if not 0 <= alpha <= 1:
            raise ValueError(f'DynamicKAssigner: alpha must be in [0, 1], got {alpha}')
        if candidate_topk < 1:
            raise ValueError(
                f'DynamicKAssigner: candidate_topk must be at least 1, got {candidate_topk}'
            )
        self.alpha = alpha
        self.candidate_topk = candidate_topk

    def assign(
        self,
        pred_instances: InstanceData,
        gt_instances: InstanceData,
        img_meta: dict,
        **kwargs: object,
    ) -> AssignResult:
        """Assign one image, by MMDetection's interface.

        Predictions have ``scores`` (N, K), which are logits under the name that
        MMDetection's match costs expect, and ``bboxes`` (N, 4), xyxy in pixels; ground
        truth has ``labels`` (G,) and ``bboxes`` (G, 4); ``img_meta`` has ``img_shape``.
        """
        boxes = pred_instances.bboxes
        objects = PaddedObjects.pad([gt_instances])
        index = self.assign_batch(
            pred_instances.scores[None, None],
            boxes[None, None],
            objects,
            boxes.new_tensor(img_meta['img_shape'][:2])[None],
        ).index[0, 0]
        matched, of = index >= 0, index.clamp(min=0)
        iou = box_overlaps(boxes, objects.boxes[0, of])[0]
        return AssignResult(
            len(gt_instances),
            index + 1,
            max_overlaps=iou * matched,
            labels=torch.where(matched, objects.labels[0, of], -1),
        )

    @torch.no_grad()
    def assign_batch(
        self, logits: Tensor, boxes: Tensor, objects: PaddedObjects, image_sizes: Tensor
    ) -> Assignment:
        """Assign all stages and images at once.

        Args:
            logits (Tensor): (S, B, N, K), before the sigmoid.
            boxes (Tensor): (S, B, N, 4), xyxy in pixels.
            objects (PaddedObjects): (B, G) of them.
            image_sizes (Tensor): (B, 2), height and width without padding.
        """
        cost, iou = self._cost(logits, boxes, objects, image_sizes)
        topk = min(self.candidate_topk, boxes.size(-2))
        k = iou.topk(topk)[0].sum(-1, keepdim=True).int().clamp(min=1)
        cheapest = cost.sort(stable=True)[1][..., :topk]
        rank = torch.arange(topk, device=cost.device)
        claims = torch.zeros_like(cost, dtype=torch.bool).scatter_(
            -1, cheapest, (rank < k) & objects.valid[..., None]
        )
        index = torch.where(claims.sum(-2) > 1, cost.argmin(-2), claims.int().argmax(-2))
        index = torch.where(claims.any(-2), index, BACKGROUND)
        return Assignment(self._serve(index, cost, objects.valid), cost)

    def _serve(self, index: Tensor, cost: Tensor, valid: Tensor) -> Tensor:
        """Let objects without a proposal name one; returns the new (S, B, N) indices."""
        names = index[..., None, :] == torch.arange(cost.size(-2), device=cost.device)[:, None]
        left = valid & ~names.any(-1)
        free = index == BACKGROUND
        free = free | ~free.any(-1, keepdim=True)
        wanted = cost.masked_fill(~free[..., None, :], torch.inf).argmin(-1)
        names = names | left[..., None] & (
            wanted[..., None] == torch.arange(cost.size(-1), device=cost.device)
        )
        # the first one of equal values
        return torch.where(names.any(-2), names.int().argmax(-2), BACKGROUND)

    def _cost(
        self, logits: Tensor, boxes: Tensor, objects: PaddedObjects, image_sizes: Tensor
    ) -> Tuple[Tensor, Tensor]:
        """(S, B, G, N) cost, which is infinite in the padding of objects, and IoU."""
        score = logits.mT.gather(
            -2,
            objects.labels.clamp(min=0)[..., None].expand(*logits.shape[:2], -1, logits.size(-2)),
        ).sigmoid()
        positive = -(score + 1e-8).log() * self.alpha * (1 - score).pow(self.gamma)
        negative = -(1 - score + 1e-8).log() * (1 - self.alpha) * score.pow(self.gamma)
        scale = image_scale(image_sizes)
        distance = torch.cdist(objects.boxes / scale, boxes / scale, p=1)
        iou, giou = box_overlaps(objects.boxes[:, :, None], boxes[..., None, :, :])
        cost = self.cls_weight * (positive - negative)
        cost = cost + self.bbox_weight * distance - self.giou_weight * giou

        centre = ((boxes[..., :2] + boxes[..., 2:]) / 2)[..., None, :, :]
        low, high = objects.boxes[:, :, None].split(2, dim=-1)
        middle, reach = (low + high) / 2, self.center_radius * (high - low)
        in_box = ((centre > low) & (centre < high)).all(-1)
        in_region = ((centre > middle - reach) & (centre < middle + reach)).all(-1)
        cost = cost + self.outside_cost * ~(in_box & in_region)
        background = ~(in_box | in_region).any(-2, keepdim=True)
        cost = cost + self.background_cost * background
        return cost.masked_fill(~objects.valid[..., None], torch.inf), iou
