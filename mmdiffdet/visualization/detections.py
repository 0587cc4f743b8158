"""Detections painted on their image."""

import warnings
from typing import Sequence

import numpy as np
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer
from mmengine.structures import InstanceData
from torch import Tensor


class DetectionPainter:
    """Boxes, class names and scores on an image, as MMDetection paints them."""

    def __init__(self, classes: Sequence[str]) -> None:
        self._visualizer = DetLocalVisualizer()
        # a palette of random colours, the same ones each time
        self._visualizer.dataset_meta = dict(classes=tuple(classes), palette='random')

    def __call__(
        self, image: np.ndarray, boxes: Tensor, labels: Tensor, scores: Tensor
    ) -> np.ndarray:
        """A copy of an image, (H, W, 3) uint8 in BGR order, with M detections.

        Boxes (M, 4) are xyxy in pixels, labels and scores (M,).
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
