"""Detections painted on their image."""

import warnings
from typing import Sequence

import numpy as np
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer
from mmengine.structures import InstanceData
from torch import Tensor


class DetectionPainter:
    """Boxes, class names and scores on an image, as MMDetection paints them.

    Args:
        classes (Sequence[str]): Class names, by label.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self._visualizer = DetLocalVisualizer()
        # a palette of random colours, the same ones each time
        self._visualizer.dataset_meta = dict(classes=tuple(classes), palette='random')

    def __call__(
        self, image: np.ndarray, boxes: Tensor, labels: Tensor, scores: Tensor
    ) -> np.ndarray:
        """Paint.

        Args:
            image (ndarray): (H, W, 3) uint8 in BGR order.
            boxes (Tensor): (M, 4), xyxy in pixels.
            labels (Tensor): (M,).
            scores (Tensor): (M,).

        Returns:
            ndarray: (H, W, 3) uint8 in BGR order, a new one.
        """
        sample = DetDataSample(
            pred_instances=InstanceData(bboxes=boxes, labels=labels, scores=scores)
        )
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # boxes may end at the border
            self._visualizer.add_datasample(
                'image', image[..., ::-1], sample, draw_gt=False, pred_score_thr=-1.0
            )
        return np.ascontiguousarray(self._visualizer.get_image()[..., ::-1])
