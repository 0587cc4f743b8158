"""LVIS's and CrowdHuman's metrics on small files, and detections that are written."""

import json
import pickle

import five_formats
import pytest
import torch
from mmengine.registry import init_default_scope

from mmdiffdet.evaluation import CocoMetric, CrowdHumanMetric, LVISMetric
from mmdiffdet.evaluation.dump_detections import DumpDetections
from mmdiffdet.evaluation.rehearsal import _sample, rehearse
from mmdiffdet.registry import DATASETS


def crowdhuman(root, change):
    """The config of four images, after a change of their records."""
    init_default_scope('mmdiffdet')
    cfg = five_formats.write(root, 'odgt')
    path = root / 'train.odgt'
    records = [json.loads(line) for line in path.read_text().splitlines()]
    change(records)
    path.write_text('\n'.join(map(json.dumps, records)))
    return cfg, DATASETS.build(cfg.val_dataloader.dataset)


def without_heads(records):
    records[1]['gtboxes'] = []  # nobody is there
    for box in records[2]['gtboxes']:
        del box['hbox']


def test_crowdhuman_without_heads_and_people(tmp_path):
    """Whoever finds all six others exactly misses nobody.

    CrowdHuman's AP is the area under the curve from its first point, a recall of 1/6, on.
    """
    cfg, dataset = crowdhuman(tmp_path, without_heads)
    values = rehearse(cfg.val_evaluator, dataset)
    assert values['crowd_human/mAP'] == pytest.approx(5 / 6, abs=1e-4)
    assert values['crowd_human/mMR'] == pytest.approx(0)
    options = dict(cfg.val_evaluator, eval_mode=1)
    options.pop('type'), options.pop('metric')
    with pytest.raises(ValueError, match='train.odgt:3: a box without hbox'):
        CrowdHumanMetric(metric='AP', **options)
    # a metric of heads that are there
    cfg, _ = crowdhuman(tmp_path / 'heads', lambda records: None)
    ann_file = cfg.val_evaluator.ann_file
    assert CrowdHumanMetric(ann_file, metric='AP', eval_mode=1).eval_mode == 1


def test_crowdhuman_of_other_images(tmp_path):
    cfg, dataset = crowdhuman(tmp_path, lambda records: None)
    lines = (tmp_path / 'train.odgt').read_text().splitlines()
    (tmp_path / 'other.odgt').write_text('\n'.join(lines[::-1]))
    cfg.val_evaluator.ann_file = str(tmp_path / 'other.odgt')
    with pytest.raises(ValueError, match='does not have the images of the data set in their order'):
        rehearse(cfg.val_evaluator, dataset)


def lvis(root, change):
    pytest.importorskip('lvis', reason='pip install lvis')
    init_default_scope('mmdiffdet')
    cfg = five_formats.write(root, 'lvis')
    content = json.loads((root / 'train.json').read_text())
    change(content)
    (root / 'train.json').write_text(json.dumps(content))
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    cfg.val_evaluator.classwise = True
    return cfg.val_evaluator, dataset, content


def test_lvis_classes_without_objects(tmp_path):
    """They have -1, and no part in the mean."""

    def change(content):
        content['annotations'] = [a for a in content['annotations'] if a['category_id'] != 2]
        for annotation in content['annotations']:
            annotation['area'] = 5000  # so that there are no small objects

    evaluator, dataset, _ = lvis(tmp_path, change)
    values = rehearse(evaluator, dataset)
    precisions = [values[f'lvis/{name}_precision'] for name in five_formats.CLASSES]
    assert precisions == [pytest.approx(1), -1, pytest.approx(1)]
    assert values['lvis/bbox_AP'] == pytest.approx(1)
    assert values['lvis/bbox_APc'] == -1  # the common one is that class
    assert values['lvis/bbox_APr'] == pytest.approx(1)
    assert values['lvis/bbox_APs'] == -1


def test_lvis_without_detections(tmp_path):
    evaluator, dataset, _ = lvis(tmp_path, lambda content: content.update(annotations=[]))
    values = rehearse(evaluator, dataset)
    assert values['lvis/bbox_AP'] == -1


def test_lvis_of_other_images_and_options(tmp_path):
    evaluator, dataset, content = lvis(tmp_path, lambda content: None)
    path = tmp_path / 'other.json'
    content['images'] = content['images'][1:]
    content['annotations'] = [a for a in content['annotations'] if a['image_id']]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r'other.json lacks image ids \[0\] of the data set'):
        rehearse(dict(evaluator, ann_file=str(path)), dataset)
    for options, message in (
        (dict(iou_thrs=[0.5]), 'iou_thrs would have no effect'),
        (dict(format_only=True), 'format_only needs outfile_prefix'),
        (dict(metric_items='AP'), 'metric_items must be a list'),
    ):
        with pytest.raises(ValueError, match=message):
            LVISMetric(str(path), **options)
    # what says nothing is no option
    LVISMetric(str(path), iou_thrs=None, outfile_prefix='x', format_only=True)
    LVISMetric(str(path), metric=('bbox',), outfile_prefix='x')
    written = dict(evaluator, format_only=True, outfile_prefix=str(tmp_path / 'found'))
    assert rehearse(written, dataset) == {}
    assert len(json.loads((tmp_path / 'found.bbox.json').read_text())) == 8


def test_options_of_cocos_metric_at_their_limits():
    assert CocoMetric(iou_thrs=1).iou_thrs.tolist() == [1.0]
    assert CocoMetric(iou_thrs=[0.01, 1.0]).iou_thrs.tolist() == [0.01, 1.0]
    metric = CocoMetric(metric=['bbox'], proposal_nums=(100, 1, 30), outfile_prefix='x')
    assert metric.proposal_nums == [1, 30, 100]
    CocoMetric(outfile_prefix='x', format_only=True, use_mp_eval=False)


def test_equal_detections_make_equal_files(tmp_path):
    """Whatever shares memory, or lies in it in another way, and in any order of fields."""

    def written(results):
        path = tmp_path / 'a.pkl'
        assert DumpDetections(str(path)).compute_metrics(results) == {}
        return path.read_bytes()

    boxes = torch.arange(8.0).reshape(2, 4)
    label = torch.tensor([1, 2])
    shape = (3, 4)
    one = written([dict(a=boxes, b=[label, label], c=shape), dict(a=boxes, c=shape)])
    turned = boxes.T.contiguous().T
    apart = [label.clone(), label.clone()]
    two = written([dict(c=(3, 4), b=apart, a=turned), dict(c=(3, 4), a=boxes.clone())])
    assert one == two and one != written([dict(a=boxes + 1, b=apart, c=shape)])
    assert one[:2] == b'\x80\x04'  # which every Python reads that the package runs on
    first, second = pickle.loads(one)
    assert torch.equal(first['a'], boxes) and first['a'].is_contiguous()
    assert torch.equal(first['b'][1], label) and second['c'] == (3, 4)
    assert isinstance(second['a'], torch.Tensor)
    # NumPy has no such numbers
    (half,) = pickle.loads(written([dict(a=torch.tensor([1.5], dtype=torch.bfloat16))]))
    assert half['a'].dtype == torch.bfloat16 and half['a'].item() == 1.5


def test_a_rehearsal_detects_the_objects_and_no_ignored_ones():
    objects = [
        dict(bbox=[1, 2, 3, 4], bbox_label=2, ignore_flag=0),
        dict(bbox=[5, 6, 7, 8], bbox_label=0, ignore_flag=1),
        dict(bbox=[9, 9, 19, 19], bbox_label=1, ignore_flag=False),
    ]
    info = dict(img_id=7, img_path='a.jpg', height=48, width=64, instances=objects)
    sample = _sample(info)
    for found in (sample.gt_instances, sample.pred_instances):
        assert found.bboxes.tolist() == [[1, 2, 3, 4], [9, 9, 19, 19]]
        assert found.labels.tolist() == [2, 1]
    assert sample.pred_instances.scores.tolist() == [1, 1]
    assert sample.ignored_instances.bboxes.tolist() == [[5, 6, 7, 8]]
    assert sample.ori_shape == sample.img_shape == (48, 64)
    assert sample.scale_factor == (1.0, 1.0)
    assert _sample(dict(info, instances=[])).gt_instances.bboxes.shape == (0, 4)
