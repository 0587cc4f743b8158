"""COCO's metric: options that act or are refused, classes that stay in the mean."""

import contextlib
import copy
import io
import json

import five_formats
import mmdet.evaluation
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from mmdiffdet.datasets.coco_file import read_coco, same_id
from mmdiffdet.evaluation import CocoMetric, LVISMetric
from mmdiffdet.evaluation.rehearsal import rehearse
from mmdiffdet.registry import DATASETS

CLASSES = ('a', 'b', 'c')


def content():
    """Three images, each with two objects of each class."""
    annotations = []
    for image in range(3):
        for label in range(3):
            for j in range(2):
                annotations.append(
                    dict(
                        id=len(annotations) + 1,
                        image_id=image,
                        category_id=label + 1,
                        bbox=[10 + 100 * label, 10 + 60 * j, 40 + 40 * label, 30 + 10 * image],
                        area=(40 + 40 * label) * (30 + 10 * image),
                        iscrowd=0,
                    )
                )
    return dict(
        images=[dict(id=i, file_name=f'{i}.jpg', width=640, height=480) for i in range(3)],
        annotations=annotations,
        categories=[dict(id=i + 1, name=name) for i, name in enumerate(CLASSES)],
    )


def detections(seed=0):
    """About the objects, some missed, some found twice, with false ones between."""
    rng = np.random.default_rng(seed)
    samples = []
    for image in range(3):
        own = [a for a in content()['annotations'] if a['image_id'] == image]
        boxes = [np.asarray(a['bbox'], float) for a in own if rng.random() < 0.9] * 2
        labels = [a['category_id'] - 1 for a in own][: len(boxes)] * 2
        count = len(boxes)
        xyxy = np.stack([[x, y, x + w, y + h] for x, y, w, h in boxes])
        xyxy += rng.normal(0, 3, xyxy.shape)
        sample = DetDataSample(metainfo=dict(img_id=image, ori_shape=(480, 640)))
        sample.pred_instances = InstanceData(
            bboxes=torch.tensor(xyxy, dtype=torch.float32),
            scores=torch.tensor(rng.random(count), dtype=torch.float32),
            labels=torch.tensor(labels[:count]),
        )
        samples.append(sample)
    return samples


def evaluate(tmp_path, change=lambda content: None, kind=CocoMetric, rename=None, **options):
    annotations = content()
    change(annotations)
    path = tmp_path / 'truth.json'
    path.write_text(json.dumps(annotations))
    with contextlib.redirect_stdout(io.StringIO()):
        metric = kind(ann_file=str(path), metric='bbox', **options)
        metric.dataset_meta = dict(classes=CLASSES)
        samples = detections()
        for sample in samples:
            if rename:
                sample.set_metainfo(dict(img_id=rename(sample.img_id)))
            metric.process({}, [sample.to_dict()])
        return metric.evaluate(len(samples))


@pytest.fixture
def expected(tmp_path):
    values = evaluate(tmp_path, classwise=True)
    assert 0.05 < values['coco/bbox_mAP'] < 0.95
    return values


def test_images_that_were_not_tested_are_told(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(MMLogger.get_current_instance(), 'warning', told.append)
    evaluate(tmp_path)
    assert told == []
    more = dict(id=9, file_name='9.jpg', width=640, height=480)
    evaluate(tmp_path, lambda c: c['images'].append(more))
    assert told[0].startswith('CocoMetric: 1 image(s) of its annotations were not tested')


def renumbered(key, new):
    def change(content):
        entries = {'image_id': 'images', 'category_id': 'categories'}[key]
        for entry in content[entries]:
            entry['id'] = new(entry['id'])
        for annotation in content['annotations']:
            annotation[key] = new(annotation[key])

    return change


@pytest.mark.parametrize(
    'change',
    [
        renumbered('category_id', lambda i: f'{i}'),
        renumbered('category_id', float),
        renumbered('category_id', lambda i: i if i == 2 else f'class {i}'),
        renumbered('category_id', lambda i: i - 1),
        renumbered('category_id', lambda i: i + 2**62),
        lambda c: [a.update(category_id=str(a['category_id'])) for a in c['annotations']],
        lambda c: c['categories'].reverse(),
        lambda c: [a.pop('area') for a in c['annotations']],
        lambda c: [a.pop('iscrowd') for a in c['annotations']],
        lambda c: [a.update(id=a['id'] - 1) for a in c['annotations']],
        lambda c: [a.pop('id') for a in c['annotations']],
        lambda c: [a.update(id=f'ann{a["id"]}') for a in c['annotations']],
        lambda c: c['annotations'].append(dict(c['annotations'][0], category_id=77, id=99)),
    ],
)
def test_however_it_is_written(change, expected, tmp_path):
    """Ids as text, numbers beside text, an object 0, no area: the same numbers."""
    found = evaluate(tmp_path, change, classwise=True)
    assert found == pytest.approx(expected, rel=1e-12)  # a mean in another order


@pytest.mark.parametrize('new', [lambda i: f'img{i}', lambda i: i + 2**62, lambda i: i * 7 - 3])
def test_ids_of_images(new, expected, tmp_path):
    change = renumbered('image_id', new)
    assert evaluate(tmp_path, change, rename=new, classwise=True) == expected


def test_a_class_with_objects_is_in_the_mean(expected, tmp_path):
    """Mixed ids, of which NumPy makes text, cost a class its place before."""
    mixed = evaluate(
        tmp_path, renumbered('category_id', lambda i: 'b' if i == 2 else i), classwise=True
    )
    per_class = [mixed[f'coco/{name}_precision'] for name in CLASSES]
    assert min(per_class) > 0
    assert np.mean(per_class) == pytest.approx(mixed['coco/bbox_mAP'])


def test_options_act_as_in_mmdetection(tmp_path):
    """To the three decimals that MMDetection gives."""
    for options in (
        dict(proposal_nums=(100, 300, 1000)),
        dict(proposal_nums=(1, 3, 100), metric_items=['mAP']),
        dict(iou_thrs=[0.5, 0.75]),
        dict(iou_thrs=[0.6], metric_items=['mAP', 'mAP_50']),
        dict(metric_items=['AR@100', 'AR_m@1000', 'mAP_s'], proposal_nums=(100, 300, 1000)),
    ):
        ours = evaluate(tmp_path, **options)
        if 'iou_thrs' in options:
            options['iou_thrs'] = np.array(options['iou_thrs'])  # as theirs takes them
        theirs = evaluate(tmp_path, kind=mmdet.evaluation.CocoMetric, **options)
        assert set(ours) == set(theirs), options
        for name, value in theirs.items():
            assert ours[name] == pytest.approx(value, abs=5.1e-4), (options, name)


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(proposal_nums=(1, 10)), 'proposal_nums must be three'),
        (dict(proposal_nums=(1, 10, 300)), '100 .of which mAP is. among them'),
        (dict(proposal_nums=100), 'proposal_nums must be three'),
        (dict(proposal_nums=(0, 10, 100)), 'proposal_nums must be three'),
        (dict(proposal_nums=(1, 10.0, 100)), 'proposal_nums must be three'),
        (dict(iou_thrs=0), r'iou_thrs must be in \(0, 1\]'),
        (dict(iou_thrs=[]), r'iou_thrs must be in \(0, 1\]'),
        (dict(iou_thrs=[0.5, 1.5]), r'iou_thrs must be in \(0, 1\]'),
        (dict(iou_thrs='0.5'), r'iou_thrs must be in \(0, 1\]'),
        (dict(iou_thrs=float('nan')), r'iou_thrs must be in \(0, 1\]'),
        (dict(metric_items=['mAP', 'AP50']), 'metric_items must be a list of mAP, mAP_50'),
        (dict(metric_items='mAP'), 'metric_items must be a list'),
        (dict(metric_items=['AR@300']), 'metric_items must be a list .*AR@100'),
        (dict(use_mp_eval=True), 'use_mp_eval has no effect'),
        (dict(format_only=True), 'format_only needs outfile_prefix'),
    ],
)
def test_options_that_would_do_nothing(options, message):
    with pytest.raises(ValueError, match=message):
        CocoMetric(**options)
    if 'proposal_nums' in options:
        with pytest.raises(ValueError, match='LVIS defines it'):
            LVISMetric('x.json', **options)


def test_lvis_by_class(tmp_path):
    """Rare, common and frequent ones, and which values are given."""
    pytest.importorskip('lvis', reason='pip install lvis')
    init_default_scope('mmdiffdet')
    cfg = five_formats.write(tmp_path / 'data', 'lvis')
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    cfg.val_evaluator.update(classwise=True, metric_items=['AP', 'APr'])
    values = rehearse(cfg.val_evaluator, dataset)
    assert set(values) == {
        *('lvis/bbox_AP', 'lvis/bbox_APr'),
        *(f'lvis/{name}_precision' for name in five_formats.CLASSES),
    }
    assert all(value == pytest.approx(1) for value in values.values())
    cfg.val_evaluator.update(metric_items=['mAP'])
    with pytest.raises(ValueError, match=r"metric_items .'mAP'. are not among AP, AP50"):
        rehearse(cfg.val_evaluator, dataset)


@pytest.mark.parametrize('metric', ['segm', 'proposal', ['bbox', 'segm'], None])
def test_other_kinds_of_metrics(metric):
    for kind in (CocoMetric, LVISMetric):
        with pytest.raises(ValueError, match="metric must be 'bbox'"):
            kind(ann_file='x.json', metric=metric)


@pytest.mark.parametrize(
    'change', [lambda c: c.pop('annotations'), lambda c: c.update(annotations=[])]
)
def test_without_annotations_it_still_predicts(change, tmp_path):
    values = evaluate(tmp_path, change, classwise=True, outfile_prefix=str(tmp_path / 'found'))
    assert values['coco/bbox_mAP'] == -1
    assert [values[f'coco/{name}_precision'] for name in CLASSES] == [-1, -1, -1]
    found = json.loads((tmp_path / 'found.bbox.json').read_text())
    assert {f['image_id'] for f in found} == {0, 1, 2}
    assert {f['category_id'] for f in found} == {1, 2, 3}


def test_results_have_the_files_own_ids(tmp_path):
    change = renumbered('category_id', lambda i: i * 10)
    evaluate(tmp_path, change, outfile_prefix=str(tmp_path / 'found'), format_only=True)
    found = json.loads((tmp_path / 'found.bbox.json').read_text())
    assert {f['category_id'] for f in found} == {10, 20, 30}


def test_same_id():
    assert [same_id(x) for x in (7, 7.0, '7', ' 7 ', '007', 'a', '-3', '7.0')] == [
        *(7, 7, 7, 7, '007', 'a', -3, '7.0')
    ]
    for bad in (None, True, [], {}, '', ' ', 7.5, float('nan')):
        with pytest.raises(ValueError, match='is no id'):
            same_id(bad)


@pytest.mark.parametrize(
    'spoil, message',
    [
        (lambda c: c['images'][1].update(width='64'), 'image id 1: width must be pixels, got "64"'),
        (lambda c: c['images'][1].update(height=0), 'image id 1: height must be pixels, got 0'),
        (lambda c: c['images'].append(None), 'image 3: must be an object, got null'),
        (lambda c: c['categories'][1].update(name=''), 'category id 2: name must be text'),
        (lambda c: c['categories'][1].update(name='a'), r"category names \['a'\] stand twice"),
        (lambda c: c['categories'][1].update(id='1'), r'category ids \[1\] stand twice'),
        (lambda c: c['images'][1].update(id='0'), r'image ids \[0\] stand twice'),
        (lambda c: c.update(images={}), 'images is not a list'),
        (lambda c: c['annotations'][2].pop('bbox'), 'annotation id 3 .*: bbox is missing'),
        (lambda c: c['annotations'][2].update(bbox=None), 'annotation id 3 .*: bbox must be four'),
        (lambda c: c['annotations'][2].update(iscrowd='0'), 'iscrowd must be 0 or 1, got "0"'),
        (lambda c: c['annotations'][2].update(area=float('nan')), 'area must be a number'),
        (lambda c: c['annotations'][2].update(area=-1), 'area must be .* got -1'),
        (lambda c: c['annotations'][2].update(area=1e11), 'area must be'),
        (lambda c: c['annotations'][2].update(image_id=[]), r'\[\] is no id'),
    ],
)
def test_what_is_refused_names_the_entry(spoil, message, tmp_path):
    spoilt = copy.deepcopy(content())
    spoil(spoilt)
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(spoilt))
    with pytest.raises(ValueError, match=f'a.json: .*{message}'):
        read_coco(str(path))


def test_annotation_ids_that_stand_twice_are_told(tmp_path):
    spoilt = content()
    spoilt['annotations'][3]['id'] = 1
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(spoilt))
    with pytest.warns(UserWarning, match='a.json: 1 annotation ids stand twice'):
        found = read_coco(str(path))
    assert [a['id'] for a in found['annotations']] == list(range(1, 19))
