"""Trajectories as data, for the viewer of a result page."""

import base64
from typing import Any, Dict, List, Sequence, Tuple

import cv2
import mmcv
from mmengine.structures import InstanceData
from torch import Tensor

from ..datasets.image_file import read_image
from ..diffusion.prediction import Prediction
from ..diffusion.sampling import SamplingStep

# the lowest threshold of the viewer
LOWEST_SCORE = 0.05


def proposal_scores(prediction: Prediction, quality_power: float) -> Tuple[Tensor, Tensor]:
    """Score (B, N) of each proposal's best class, as of detections, and that class (B, N).

    For ``quality_power`` see :func:`~mmdiffdet.models.postprocess.candidates`.
    """
    score, label = prediction.logits.float().sigmoid().max(-1)
    if quality_power > 0:
        score = score * prediction.quality.float().sigmoid() ** quality_power
    return score, label


def trajectory_data(
    steps: Sequence[SamplingStep],
    detections: InstanceData,
    img_path: str,
    img_shape: Tuple[int, int],
    quality_power: float = 0.0,
    num_proposals: int = 60,
    max_width: int = 480,
) -> Dict[str, Any]:
    """An image and its boxes at each step, in plain types for JSON.

    ``steps`` and ``detections`` are those of :func:`record_trajectory`, ``img_shape`` is
    height and width in their pixels. The ``num_proposals`` that the last step gives the
    best scores are kept; an image is made at most ``max_width`` pixels wide.

    Returns:
        dict: ``name``, ``width``, ``height`` and ``uri`` (``data:``, JPEG) of
        the image, and ``way``: ``proposals`` (how many there were), and of each
        step ``timesteps``, ``boxes`` (as they enter; one item more, which comes
        out of the last), ``scores`` and ``labels`` (as they come out), and
        ``detections`` (x1, y1, x2, y2, score, label), best first.
    """
    height, width = img_shape[:2]
    scale = min(1.0, max_width / width)
    size = round(width * scale), round(height * scale)
    image = mmcv.imresize(read_image(img_path)[0], size, interpolation='area')
    _, jpeg = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, 85])
    final, _ = proposal_scores(steps[-1].prediction, quality_power)
    best = final[0].argsort(descending=True)[:num_proposals]
    outputs = [proposal_scores(step.prediction, quality_power) for step in steps]
    boxes = [step.boxes for step in steps] + [steps[-1].prediction.boxes]
    kept = detections[detections.scores > LOWEST_SCORE]
    return dict(
        name=str(img_path).replace('\\', '/').rsplit('/', 1)[-1],
        width=size[0],
        height=size[1],
        uri='data:image/jpeg;base64,' + base64.b64encode(jpeg.tobytes()).decode(),
        way=dict(
            proposals=steps[0].boxes.size(1),
            timesteps=[step.t for step in steps],
            boxes=[_rounded(b[0, best] * scale, 1) for b in boxes],
            scores=[_rounded(score[0, best], 3) for score, _ in outputs],
            labels=[label[0, best].tolist() for _, label in outputs],
            detections=[
                [*box, score, label]
                for box, score, label in zip(
                    _rounded(kept.bboxes * scale, 1), _rounded(kept.scores, 3), kept.labels.tolist()
                )
            ],
        ),
    )


def _rounded(values: Tensor, digits: int) -> List[Any]:
    """Nested lists of a tensor's numbers, rounded to make the file smaller."""
    if values.dim() > 1:
        return [_rounded(row, digits) for row in values]
    return [round(v, digits) for v in values.double().tolist()]
