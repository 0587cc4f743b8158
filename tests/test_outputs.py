"""What a test writes: pictures, and no detections that are not numbers."""

import os
import subprocess
import sys

import cv2
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from tiny import runner_config, write_coco

from mmdiffdet.engine.check_detections import check_detections
from mmdiffdet.engine.paint_hook import use_painting
from mmdiffdet.utils import atomic_path


def sample(boxes, scores):
    found = DetDataSample(metainfo=dict(img_path='data/7.png'))
    found.pred_instances = InstanceData(bboxes=torch.tensor(boxes), scores=torch.tensor(scores))
    return found


def test_detections_that_are_not_finite_stop_the_test():
    good = sample([[0.0, 0.0, 1.0, 1.0]], [0.5])
    check_detections([good, sample(torch.zeros(0, 4).tolist(), [])])
    nan, inf = float('nan'), float('inf')
    for bad, name in (
        (sample([[0.0, 0.0, 1.0, 1.0]], [nan]), 'scores'),
        (sample([[0.0, 0.0, inf, 1.0]], [0.5]), 'bboxes'),
    ):
        with pytest.raises(FloatingPointError, match=f'{name} of 1 of 1 .*data/7.png.*seed3'):
            check_detections([good, bad], 'seed3_step1')


def test_a_network_whose_outputs_overflow_is_found(tmp_path):
    cfg = runner_config(write_coco(tmp_path / 'data', 2), tmp_path / 'work')
    runner = Runner.from_cfg(cfg)
    with torch.no_grad():
        for parameter in runner.model.bbox_head.parameters():
            parameter.mul_(1e20)  # finite, each of them
    with pytest.raises(FloatingPointError, match=r'bbox_head are not finite for .*0\.png'):
        runner.test()


def test_pictures_keep_their_folders_and_stay_inside(tmp_path):
    root = write_coco(tmp_path / 'data', 3)
    names = ['a/x.png', 'b/x.png', '../outside/x.png']
    text = (root / 'train.json').read_text()
    for number, name in enumerate(names):
        path = root / 'images' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        os.rename(root / f'images/{number}.png', path)
        text = text.replace(f'"{number}.png"', f'"{name}"')
    (root / 'train.json').write_text(text)
    cfg = runner_config(root, tmp_path / 'work')
    use_painting(cfg, False, 'pictures', 0)
    cfg.experiment_name = 'pictures'
    runner = Runner.from_cfg(cfg)
    runner.test()
    folder = tmp_path / 'work' / runner.timestamp / 'pictures'
    found = sorted(p.relative_to(folder).as_posix() for p in folder.rglob('*.png'))
    assert len(found) == 3 and {'a/x.png', 'b/x.png'} < set(found)
    assert sorted(p for p in tmp_path.rglob('x.png') if 'pictures' not in p.parts) == sorted(
        (root / 'images' / name).resolve() for name in names
    )
    assert cv2.imread(str(folder / 'a/x.png')).shape[2] == 3


def test_images_are_painted_as_they_were_tested(tmp_path):
    """A JPEG without its last bytes, and a grey picture in place of a missing image."""
    root = write_coco(tmp_path / 'data', 2)
    image = cv2.imread(str(root / 'images/0.png'))
    whole = cv2.imencode('.jpg', image)[1].tobytes()
    (root / 'images/cut.jpg').write_bytes(whole[: len(whole) * 2 // 3])
    (root / 'images/1.png').unlink()
    text = (root / 'train.json').read_text().replace('0.png', 'cut.jpg')
    (root / 'train.json').write_text(text)
    cfg = runner_config(root, tmp_path / 'work')
    cfg.test_dataloader.dataset.on_bad_image = 'skip'
    cfg.experiment_name = 'as_tested'
    use_painting(cfg, False, 'pictures', 0)
    cfg.default_hooks.visualization.score_thr = 1.0  # the image alone
    runner = Runner.from_cfg(cfg)
    runner.test()
    folder = tmp_path / 'work' / runner.timestamp / 'pictures'
    # on the right, beside the objects
    painted = cv2.imread(str(folder / 'cut.jpg')).astype(int)[:, 64:]
    assert abs(painted[:16] - image[:16]).mean() < 15  # what is there of it
    assert (cv2.imread(str(folder / '1.png'))[:, 64:] == 128).all()


def test_painting_needs_a_visualizer(tmp_path):
    cfg = runner_config(write_coco(tmp_path / 'data', 2), tmp_path)
    cfg.visualizer = None
    with pytest.raises(ValueError, match='need a visualizer'):
        use_painting(cfg, False, 'x', 0)


_KILLED = """
import os, signal, sys
from mmdiffdet.utils import atomic_path
with atomic_path(sys.argv[1]) as path:
    path.write_text('half')
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path):
    target = tmp_path / 'out.txt'
    with atomic_path(target) as other:  # a writer that is at work
        subprocess.run([sys.executable, '-c', _KILLED, str(target)])
        left = set(tmp_path.iterdir()) - {other}
        assert len(left) == 1
        with atomic_path(target) as path:
            path.write_text('whole')
        assert not left & set(tmp_path.iterdir()) and other.exists()
        assert target.read_text() == 'whole'
    assert [p.name for p in tmp_path.iterdir()] == ['out.txt']
