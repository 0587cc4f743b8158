"""Greedy non-maximum suppression within groups of boxes."""

from bisect import bisect_left
from itertools import compress

import torch
from torch import Tensor

_BLOCK = 256
"""Boxes that are compared at a time where the host knows all numbers."""
_ROUNDS = 16
"""Rounds between two looks at the result where looking makes the host wait."""


def grouped_nms(
    boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float, offset: int = 0
) -> Tensor:
    """Which boxes stay, where only boxes of one group suppress each other.

    It is exact: a box goes if its IoU with a better one of its group that
    stays is above the threshold. Among equal scores the earlier box is the
    better one. On CPUs boxes are compared block by block with those of their
    groups that stay; elsewhere all pairs at once, for which the host waits
    once, or once more for every 16 boxes that a chain of boxes has in which
    each would suppress the next.

    Args:
        boxes (Tensor): (M, 4), xyxy.
        scores (Tensor): (M,).
        groups (Tensor): (M,) long, e.g. labels.
        iou_threshold (float): Between 0 and 1.
        offset (int): Added to each side, 0 or 1.

    Returns:
        Tensor: (M,) bool.
    """
    if not len(boxes):
        return torch.zeros_like(groups, dtype=torch.bool)
    # by group, the best first
    order = scores.argsort(descending=True, stable=True)
    order = order[groups[order].argsort(stable=True)]
    sides, groups = boxes[order].T.contiguous(), groups[order]
    if boxes.device.type == 'cpu':
        stay = _by_blocks(sides, groups, iou_threshold, offset)
    else:
        stay = _at_once(sides, groups, iou_threshold, offset)
    return torch.empty_like(stay).scatter_(0, order, stay)


def _by_blocks(sides: Tensor, groups: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Of (4, M) sides, sorted by group and score: who stays, (M,) bool."""
    numbers, stays = groups.tolist(), []
    kept, kept_groups = sides[:, :0], []  # those of the groups that go on
    for start in range(0, len(numbers), _BLOCK):
        block = sides[:, start : start + _BLOCK]
        block_groups = numbers[start : start + _BLOCK]
        first = bisect_left(kept_groups, block_groups[0])
        kept, kept_groups = kept[:, first:], kept_groups[first:]
        above = overlaps(kept, block, offset) > iou_threshold
        pairs = overlaps(block, block, offset) > iou_threshold
        if block_groups[0] != block_groups[-1]:
            here = groups[start : start + _BLOCK]
            above &= groups.new_tensor(kept_groups)[:, None] == here
            pairs &= here[:, None] == here
        stay = _settle(~above.any(0), pairs.triu_(1).float(), rounds=1)
        kept = torch.cat([kept, block[:, stay]], 1)
        kept_groups += compress(block_groups, stay.tolist())
        stays.append(stay)
    return torch.cat(stays)


def _at_once(sides: Tensor, groups: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """As :func:`_by_blocks`, with sizes that do not depend on the boxes."""
    pairs = overlaps(sides, sides, offset) > iou_threshold
    pairs = (pairs & (groups[:, None] == groups)).triu_(1)
    with torch.autocast(sides.device.type, enabled=False):  # it would cast in each round
        return _settle(torch.ones_like(groups, dtype=torch.bool), pairs.bfloat16(), _ROUNDS)


def _settle(alive: Tensor, suppresses: Tensor, rounds: int) -> Tensor:
    """Whom nobody suppresses who stays.

    Args:
        alive (Tensor): (M,) bool.
        suppresses (Tensor): (M, M), not 0 where row i suppresses column
            j > i if i stays.
        rounds (int): So many at a time. The i-th box is decided after i
            rounds at the latest, mostly all are after a few.
    """
    stay = alive
    while True:
        for _ in range(rounds):
            before = stay
            stay = alive & (before.to(suppresses.dtype) @ suppresses == 0)
        if torch.equal(stay, before):
            return stay


def overlaps(a: Tensor, b: Tensor, offset: int = 0) -> Tensor:
    """(4, N) and (4, M) sides of boxes to (N, M) IoU, rounded as MMCV's; NaN of 0 / 0."""

    def shared(low: int, high: int) -> Tensor:
        length = torch.minimum(a[high, :, None], b[high])
        return length.sub_(torch.maximum(a[low, :, None], b[low])).add_(offset).clamp_(min=0)

    area_a, area_b = ((x[2] - x[0] + offset) * (x[3] - x[1] + offset) for x in (a, b))
    both = shared(0, 2).mul_(shared(1, 3))
    return both / (area_a[:, None] + area_b).sub_(both)
