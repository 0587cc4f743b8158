"""One greedy suppression over all classes is that of each class on its own."""

import pytest
import torch
from test_device import candidates
from tiny import Operators

from mmdiffdet import nms, ops
from mmdiffdet.models.postprocess import merge
from mmdiffdet.nms import grouped_nms


def class_by_class(boxes, scores, labels, threshold, offset=0):
    """Which boxes stay, by the operator that treats one class."""
    stay = torch.zeros_like(labels, dtype=torch.bool)
    for label in labels.unique():
        index = (labels == label).nonzero()[:, 0]
        stay[index[ops.nms(boxes[index], scores[index], threshold, offset)]] = True
    return stay


@pytest.mark.parametrize(
    'num, classes',
    [(1, 1), (100, 3), (700, 1), (2000, 80), (10000, 80), (10000, 1203)],
)
def test_it_is_nms_of_each_class(num, classes):
    image = candidates(num, classes)
    found = grouped_nms(*image, 0.5)
    assert torch.equal(found, class_by_class(*image, 0.5))
    assert 0 < found.sum() <= num
    if num == 2000:
        assert not found.all()


@pytest.mark.parametrize('threshold, offset', [(0.1, 0), (0.5, 1), (0.95, 0)])
@pytest.mark.parametrize('classes', [1, 3, 80])
def test_all_pairs_at_once_are_the_blocks(monkeypatch, threshold, offset, classes):
    image = candidates(800, classes, seed=1)
    blocks = grouped_nms(*image, threshold, offset)
    assert torch.equal(blocks, class_by_class(*image, threshold, offset))
    monkeypatch.setattr(nms, '_by_blocks', nms._at_once)
    assert torch.equal(grouped_nms(*image, threshold, offset), blocks)


def test_a_chain_longer_than_the_rounds(monkeypatch):
    """Each box would suppress the next: the last one is decided last."""
    monkeypatch.setattr(nms, '_by_blocks', nms._at_once)
    left = torch.arange(100.0)[:, None] * torch.tensor([4.0, 0, 4, 0])
    boxes = left + torch.tensor([0.0, 0, 10, 10])
    stay = grouped_nms(boxes, -torch.arange(100.0), torch.zeros(100, dtype=torch.long), 0.4)
    assert stay.tolist() == [True, False] * 50


def test_rounds_cast_nothing_more_under_autocast(monkeypatch):
    """The pairs once and who stays in each round; autocast would cast both factors again."""
    monkeypatch.setattr(nms, '_by_blocks', nms._at_once)
    with Operators() as count, torch.autocast('cpu', torch.float16):
        grouped_nms(*candidates(50, 2), 0.5)
    assert count.calls['_to_copy'] == count.calls['mm'] + 1 > 1


def test_no_boxes():
    empty = torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long)
    assert grouped_nms(*empty, 0.5).shape == (0,)
    found = merge(*empty, dict(img_shape=(9, 9)), nms=dict(type='nms', iou_threshold=0.5))
    assert found.bboxes.shape == (0, 4) and found.labels.dtype == torch.long


def merged(image, **options):
    meta = dict(img_shape=(500, 600), scale_factor=(0.5, 0.25))
    return merge(*image, meta, **options)


@pytest.mark.parametrize('score_thr', [0.0, 0.4])
@pytest.mark.parametrize('max_per_img', [-1, 1, 60])
def test_detections_are_those_of_a_class_at_a_time(score_thr, max_per_img):
    """To the last bit and in the same order, which equal scores leave open."""
    image = candidates(900, 7)
    options = dict(score_thr=score_thr, max_per_img=max_per_img)
    found = merged(image, nms=dict(type='nms', iou_threshold=0.5), **options)
    # an option of MMCV's that changes nothing takes its operator, class by class
    wanted = merged(image, nms=dict(type='nms', iou_threshold=0.5, score_threshold=-1.0), **options)
    for key in ('bboxes', 'scores', 'labels'):
        assert torch.equal(found[key], wanted[key])
    assert len(found) == max_per_img or max_per_img < 0
    assert (found.scores > score_thr).all()
    assert (found.bboxes[:, 2] <= 1200).all() and (found.bboxes[:, 3] <= 2000).all()


def test_soft_nms_is_of_each_class_and_after_the_threshold():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 9], [0, 0, 9, 9]])
    image = boxes, torch.tensor([0.9, 0.8, 0.7, 0.3]), torch.tensor([0, 0, 1, 0])
    soft = dict(type='soft_nms', iou_threshold=0.3, min_score=1e-3)
    found = merge(*image, dict(img_shape=(20, 20)), nms=soft, score_thr=0.5)
    assert found.labels.tolist() == [0, 1, 0]
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.7, 0.8 * (1 - 0.9)]))
