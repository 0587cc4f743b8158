"""Pictures of an image's way from noise to detections."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData
from tiny import batch, build, tiny_config

from mmdiffdet.diffusion.prediction import Prediction
from mmdiffdet.diffusion.sampling import SamplingStep
from mmdiffdet.visualization import (
    DetectionPainter,
    plot_trajectory,
    record_trajectory,
    trajectory,
)


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


@pytest.mark.parametrize(
    'count, chosen, grid',
    [
        (1, [1], (1, 2)),
        (3, [1, 2, 3], (1, 4)),
        (20, [1, 4, 7, 11, 14, 17, 20], (2, 4)),  # every 19/6th, 9.5 is 10
    ],
)
def test_seven_steps_at_most_and_the_detections(count, chosen, grid, tmp_path, monkeypatch):
    """In rows of four; boxes are drawn where they are, the picture's border around them."""
    height, width = 40, 80
    box = torch.tensor([[[2.0, 3, 20, 30]]])
    # half sure, exactly at the threshold
    prediction = Prediction(box, torch.zeros(1, 1, 2), None)
    steps = [SamplingStep(i, 999 - i, box + i, prediction) for i in range(count)]
    found = InstanceData(
        bboxes=torch.tensor([[4.0, 6, 9, 16], [1, 1, 2, 2]]),
        labels=torch.tensor([11, 0]),
        scores=torch.tensor([0.75, 0.5]),
    )
    cv2.imwrite(str(tmp_path / 'a.png'), np.full((20, 40, 3), (0, 0, 255), np.uint8))
    figures, close = [], trajectory.plt.close
    monkeypatch.setattr(trajectory.plt, 'close', figures.append)
    classes = [f'c{i}' for i in range(12)]
    out = tmp_path / 'a/b/out.png'
    for _ in range(2 if count == 1 else 1):  # again in its place
        plot_trajectory(
            steps, found, str(tmp_path / 'a.png'), (height, width), classes, out, score_thr=0.5
        )
    figure = figures[-1]
    assert out.exists()
    axes = figure.axes
    assert len(axes) == grid[0] * grid[1]
    wide, high = figure.get_size_inches()
    # an axis of 4 inches has the image's shape, with room for titles
    assert wide == 4 * grid[1] and 2 * grid[0] < high < 2.5 * grid[0] + 0.5
    titles = [axis.get_title() for axis in axes[: len(chosen)]]
    assert titles == [f'step {i} of {count}: t = {1000 - i}' for i in chosen]
    for axis, index in zip(axes, chosen):
        unsure, sure = axis.collections
        (corners,) = (path.vertices[:4].tolist() for path in unsure.get_paths())
        i = index - 1
        assert corners == [[2 + i, 3 + i], [20 + i, 3 + i], [20 + i, 30 + i], [2 + i, 30 + i]]
        assert len(sure.get_paths()) == 0
        assert unsure.get_linewidths()[0] < sure.get_linewidths()[0] < 2
        white = unsure.get_edgecolors()[0]
        assert (white[:3] == 1).all() and white[3] < 0.5
    last = axes[len(chosen)]
    assert last.get_title() == '1 detections with score > 0.5'
    (boxes,) = last.collections
    assert [p.vertices[:3].tolist() for p in boxes.get_paths()] == [[[4, 6], [9, 6], [9, 16]]]
    second = (1.0, 127 / 255, 14 / 255, 1.0)  # of ten colours; class 11 has that of class 1
    assert boxes.get_edgecolors()[0] == pytest.approx(second, abs=1e-3)
    (name,) = last.texts
    assert name.get_text() == 'c11 0.75' and name.get_position()[0] == 4
    assert name.get_position()[1] < 6  # above the box
    for axis in axes[: len(chosen) + 1]:
        assert axis.get_xlim() == pytest.approx((-6.4, 86.4))  # 8 % on each side
        assert axis.get_ylim() == pytest.approx((43.2, -3.2))
        (image,) = axis.images
        assert image.get_array().shape == (height, width, 3)
        assert (image.get_array() == (255, 0, 0)).all()  # red, in RGB
    assert not any(axis.images for axis in axes[len(chosen) + 1 :])
    for figure in figures:
        close(figure)


def test_detections_are_painted_on_a_copy():
    """Whatever their score, without a background; BGR stays BGR."""
    image = np.full((40, 60, 3), (200, 0, 0), np.uint8)
    painter = DetectionPainter(['a', 'b'])
    none = torch.zeros(0)
    assert (painter(image, none.reshape(0, 4), none.long(), none) == image).all()
    box = torch.tensor([[10.0, 15, 50, 35]])
    found = painter(image, box, torch.tensor([1]), torch.tensor([0.0]))
    assert (image == (200, 0, 0)).all() and found.shape == image.shape
    assert found.flags.c_contiguous
    changed = (found != image).any(-1)
    assert changed[35, 12:48].all() and changed[17:34, 50].all()  # an edge, and another
    assert not changed[:, :5].any() and not changed[20:30, 45:47].any()


def test_a_recorded_trajectory_is_in_pixels_of_the_input():
    """Half of the image's; otherwise they are the detections of a test."""
    model = build(tiny_config(sampler=dict(sampling_timesteps=2))).eval()
    data = batch(((64, 96),), (1,))
    data['data_samples'][0].set_metainfo(dict(ori_shape=(128, 192), scale_factor=(0.5, 0.5)))
    steps, found = record_trajectory(model, data)
    with torch.no_grad():
        (tested,) = model.test_step(data)
    expected = tested.pred_instances
    assert len(found) == len(expected) > 0 and len(steps) == 2
    assert torch.equal(found.scores, expected.scores)
    torch.testing.assert_close(found.bboxes * 2, expected.bboxes)
    assert steps[0].boxes.shape == (1, 12, 4)
