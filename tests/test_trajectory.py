"""Pictures of an image's way from noise to detections."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from mmdiffdet.diffusion.prediction import Prediction
from mmdiffdet.diffusion.sampling import SamplingStep
from mmdiffdet.visualization import plot_trajectory, trajectory


@pytest.mark.parametrize('quality_power, coloured', [(0.0, 2), (1.0, 1)])
def test_one_score_filters_and_colours(tmp_path, monkeypatch, quality_power, coloured):
    """A proposal with a good class and a bad quality is no detection, nor coloured like one."""
    boxes = torch.tensor([[[2.0, 2, 20, 20], [5, 5, 30, 30], [1, 1, 9, 9]]])
    logits = torch.tensor([[[5.0, -5], [5, -5], [-5, -5]]])
    quality = torch.tensor([[5.0, -5, 5]])
    step = SamplingStep(0, 999, boxes, Prediction(boxes, logits, quality))
    found = InstanceData(
        bboxes=boxes[0, :2], labels=torch.tensor([0, 0]), scores=torch.tensor([0.98, 0.01])
    )
    drawn, titles = [], []
    draw = trajectory._draw
    monkeypatch.setattr(
        trajectory, '_draw', lambda *args: (drawn.append(len(args[1])), draw(*args))
    )
    set_title = trajectory.plt.Axes.set_title
    monkeypatch.setattr(
        trajectory.plt.Axes, 'set_title', lambda *args: (titles.append(args[1]), set_title(*args))
    )
    cv2.imwrite(str(tmp_path / 'a.png'), np.full((40, 40, 3), 90, np.uint8))
    arguments = [step], found, str(tmp_path / 'a.png'), (40, 40), ('a', 'b'), tmp_path / 'out.png'
    plot_trajectory(*arguments, 0.4, quality_power)
    assert drawn == [3 - coloured, coloured, 1]
    assert titles[-1] == '1 detections with score > 0.4'
    plot_trajectory(*arguments, 0.99, quality_power)
    assert titles[-1] == '0 detections with score > 0.99; the best is 0.98'
    assert cv2.imread(str(tmp_path / 'out.png')).std() > 10
