"""The boxes of one image from noise to detections, as a picture."""

from pathlib import Path
from typing import List, Tuple

import matplotlib
import mmcv
import numpy as np
import torch
from mmengine.structures import InstanceData
from torch import Tensor

from ..datasets.image_file import read_image
from ..diffusion.sampling import SamplingStep
from ..models.detector import DiffusionDet
from ..utils import atomic_path
from .trajectory_data import proposal_scores

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.collections import PolyCollection  # noqa: E402


@torch.inference_mode()
def record_trajectory(model: DiffusionDet, data: dict) -> Tuple[List[SamplingStep], InstanceData]:
    """Every step of one image, and its detections, in pixels of the network's input.

    ``model`` is in evaluation mode; ``data`` is one image as the test pipeline packs
    it, batched (``pseudo_collate`` of one item).
    """
    steps: List[SamplingStep] = []
    data = model.data_preprocessor(data, False)
    table = model.bbox_head.tabulate(model.extract_feat(data['inputs']))
    metas = [sample.metainfo for sample in data['data_samples']]
    detections = model.detect(table, metas, rescale=False, callback=steps.append)
    return steps, detections[0]


def plot_trajectory(
    steps: List[SamplingStep],
    detections: InstanceData,
    img_path: str,
    img_shape: Tuple[int, int],
    classes: Tuple[str, ...],
    out: Path,
    score_thr: float = 0.4,
    quality_power: float = 0.0,
) -> None:
    """Draw the noisy boxes of each step, then the detections, into the picture ``out``.

    ``steps`` and ``detections`` are those of :func:`record_trajectory`, ``img_shape`` is
    height and width in their pixels. Boxes with a score above ``score_thr`` are
    coloured; for ``quality_power`` see
    :func:`~mmdiffdet.models.postprocess.candidates`.
    """
    height, width = img_shape[:2]
    image = mmcv.imresize(read_image(img_path)[0][..., ::-1], (width, height))
    chosen = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), 7)).round().astype(int))
    panels = len(chosen) + 1
    columns = min(panels, 4)
    rows = -(-panels // columns)
    size = (4 * columns, 4 * rows * height / width + 0.4 * rows + 0.3)
    figure, axes = plt.subplots(rows, columns, figsize=size, layout='constrained')
    colours = plt.get_cmap('tab10')(np.arange(max(len(classes), 1)) % 10)
    for axis in axes.flat:
        axis.axis('off')
    for axis, index in zip(axes.flat, chosen):
        step = steps[index]
        score, label = (each[0] for each in proposal_scores(step.prediction, quality_power))
        # a box is drawn as it went in, in the colour of what came out
        sure = score > score_thr
        axis.imshow(image)
        _draw(axis, step.boxes[0][~sure], (1, 1, 1, 0.25), 0.6)
        _draw(axis, step.boxes[0][sure], colours[label[sure].cpu().numpy()], 1.3)
        axis.set_title(f'step {index + 1} of {len(steps)}: t = {step.t}')
        _frame(axis, width, height)
    axis = axes.flat[len(chosen)]
    found = detections[detections.scores > score_thr]
    axis.imshow(image)
    _draw(axis, found.bboxes, colours[found.labels.cpu().numpy()], 2)
    values = (found.bboxes.tolist(), found.labels.tolist(), found.scores.tolist())
    for (x, y, *_), label, score in zip(*values):
        style = dict(fontsize=8, color='white', backgroundcolor=(*colours[label][:3], 0.7))
        axis.text(x, y - 2, f'{classes[label]} {score:.2f}', **style)
    best = f'; the best is {detections.scores.max():.2f}' if len(detections) else ''
    axis.set_title(
        f'{len(found)} detections with score > {score_thr:g}{"" if len(found) else best}'
    )
    _frame(axis, width, height)
    figure.supxlabel(
        'Boxes as they enter each step, coloured by class if their score comes out '
        f'> {score_thr:g}, white otherwise.',
        fontsize='medium',
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(out) as path:
        figure.savefig(path, dpi=110, bbox_inches='tight')
    plt.close(figure)


def _draw(axis: plt.Axes, boxes: Tensor, colour: object, width: float) -> None:
    x1, y1, x2, y2 = boxes.cpu().numpy().T
    corners = np.stack([x1, y1, x2, y1, x2, y2, x1, y2], -1).reshape(-1, 4, 2)
    style = dict(facecolors='none', edgecolors=colour, linewidths=width)
    axis.add_collection(PolyCollection(corners, **style))


def _frame(axis: plt.Axes, width: int, height: int) -> None:
    """Show a little beyond the border, over which noisy boxes reach."""
    axis.set_facecolor('black')
    axis.set_xlim(-0.08 * width, 1.08 * width)
    axis.set_ylim(1.08 * height, -0.08 * height)
