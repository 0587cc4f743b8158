"""The objects of a batch as tensors of one shape."""

from dataclasses import dataclass
from typing import Sequence

import torch.nn.functional as F
from mmengine.structures import InstanceData
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


@dataclass
class PaddedObjects:
    """Ground truth of B images, padded to the largest number of objects G.

    Args:
        boxes (Tensor): (B, G, 4), xyxy in pixels; zeros where there is none.
        labels (Tensor): (B, G) long; -1 where there is no object.
    """

    boxes: Tensor
    labels: Tensor

    @classmethod
    def pad(cls, gt_instances: Sequence[InstanceData]) -> 'PaddedObjects':
        """Pad ``bboxes`` and ``labels`` of each image; G is at least 1."""
        boxes = pad_sequence([gt.bboxes for gt in gt_instances], True)
        labels = pad_sequence([gt.labels for gt in gt_instances], True, -1)
        if labels.size(1) == 0:
            boxes = F.pad(boxes, (0, 0, 0, 1))
            labels = F.pad(labels, (0, 1), value=-1)
        return cls(boxes, labels)

    @property
    def valid(self) -> Tensor:
        """(B, G) bool, whether there is an object."""
        return self.labels >= 0
