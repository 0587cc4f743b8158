"""Dynamic-k matching of proposals and objects."""
from dataclasses import dataclass
from typing import Sequence

import torch
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData
from torch import Tensor

from ..registry import TASK_UTILS


@dataclass
class Match:
    """Which proposal stands for which object.

    Args:
        assigned (Tensor): (N,) long, object of each proposal or -1.
        best (Tensor): (G,) long, the cheapest proposal of each object, or -1
            where there were more objects than proposals.
    """

    assigned: Tensor
    best: Tensor


@TASK_UTILS.register_module()
class DynamicKMatcher:
    """One to many: object i gets its k_i cheapest proposals.

    (SimOTA of YOLOX, arXiv 2107.08430, sec. 2.1, as DiffusionDet uses it.)
    k_i is the whole part of the sum of its ``candidate_topk`` best IoUs, at
    least 1. A proposal claimed twice keeps its cheapest object; an object
    left without one gets the cheapest proposal that is free.

    Args:
        match_costs (Sequence[dict]): MMDetection match costs, which are
            summed.
        center_radius (float): The centre region reaches that many widths and
            heights of the object to each side of its centre.
        candidate_topk (int): IoUs that are summed for k.
        outside_cost (float): Added unless the proposal's centre is in the
            object's box and in its centre region.
        background_cost (float): Added for proposals in no box and no region.
    """

    def __init__(self,
                 match_costs: Sequence[dict],
                 center_radius: float = 2.5,
                 candidate_topk: int = 5,
                 outside_cost: float = 100.0,
                 background_cost: float = 10000.0) -> None:
        self.match_costs = [TASK_UTILS.build(cost) for cost in match_costs]
        self.center_radius = center_radius
        self.candidate_topk = candidate_topk
        self.outside_cost = outside_cost
        self.background_cost = background_cost

    @torch.no_grad()
    def __call__(self, predictions: InstanceData, gt_instances: InstanceData,
                 img_meta: dict) -> Match:
        """Match one image.

        Args:
            predictions (InstanceData): ``scores`` (N, K) class logits (the
                name that MMDetection's costs expect) and ``bboxes`` (N, 4).
            gt_instances (InstanceData): ``labels`` (G,), ``bboxes`` (G, 4).
            img_meta (dict): With ``img_shape``.
        """
        boxes, objects = predictions.bboxes, gt_instances.bboxes
        num, num_objects = len(boxes), len(objects)
        assigned = torch.full((num, ), -1, device=boxes.device)
        if num_objects == 0 or num == 0:
            return Match(assigned, assigned.new_full((num_objects, ), -1))
        cost = self._cost(predictions, gt_instances, img_meta)
        iou = bbox_overlaps(boxes, objects)
        top = iou.topk(min(self.candidate_topk, num), dim=0)[0]
        k = top.sum(0).int().clamp(min=1)

        # claims[i, g]: proposal i is among the k_g cheapest of object g
        rank = cost.argsort(dim=0, stable=True).argsort(dim=0)
        claims = rank < k
        contested = claims.sum(1) > 1
        cheapest = cost.argmin(1)
        assigned = torch.where(claims.any(1), claims.int().argmax(1), -1)
        assigned = torch.where(contested, cheapest, assigned)
        self._serve_the_rest(assigned, cost)
        best = torch.where(
            assigned[:, None] == torch.arange(num_objects).to(assigned), cost,
            torch.inf)
        lowest, best = best.min(0)
        return Match(assigned, torch.where(lowest.isinf(), -1, best))

    def _serve_the_rest(self, assigned: Tensor, cost: Tensor) -> None:
        """Give objects without a proposal the cheapest free one, in place.

        Where several want the same, the cheapest of them gets it and the
        others choose again.
        """
        free_cost = cost.masked_fill((assigned >= 0)[:, None], torch.inf)
        served = torch.isin(
            torch.arange(cost.size(1), device=cost.device), assigned)
        free_cost[:, served] = torch.inf
        while True:
            flat = free_cost.argmin()
            proposal, target = flat // cost.size(1), flat % cost.size(1)
            if free_cost[proposal, target].isinf():
                return
            assigned[proposal] = target
            free_cost[proposal] = torch.inf
            free_cost[:, target] = torch.inf

    def _cost(self, predictions: InstanceData, gt_instances: InstanceData,
              img_meta: dict) -> Tensor:
        """(N, G) matching cost."""
        cost = sum(
            match_cost(predictions, gt_instances, img_meta)
            for match_cost in self.match_costs)
        centre = (predictions.bboxes[:, None, :2] +
                  predictions.bboxes[:, None, 2:]) / 2
        low, high = gt_instances.bboxes.split(2, dim=-1)
        middle, reach = (low + high) / 2, self.center_radius * (high - low)
        in_box = ((centre > low) & (centre < high)).all(-1)
        in_region = ((centre > middle - reach) &
                     (centre < middle + reach)).all(-1)
        cost = cost + self.outside_cost * ~(in_box & in_region)
        background = ~(in_box | in_region).any(1)
        return cost + self.background_cost * background[:, None]
