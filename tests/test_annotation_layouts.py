"""Layouts of VOC and YOLO at the limits of what they may say."""

import cv2
import numpy as np
import pytest
from mmengine.registry import init_default_scope
from test_annotations import CLASSES, told_by

from mmdiffdet.datasets import VOCDataset
from mmdiffdet.datasets.yolo import YOLODataset, class_file, yolo_classes


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmdiffdet')


# -- VOC ----------------------------------------------------------------------
def voc(root, *objects, size='<width>64</width><height>48</height>', **options):
    """A data set of one image; objects are xmin, ymin, xmax, ymax and perhaps ``difficult``."""
    text = ''.join(
        '<object><name>red</name>'
        + ''.join(f'<difficult>{d}</difficult>' for d in difficult)
        + '<bndbox>'
        + ''.join(f'<{k}>{v}</{k}>' for k, v in zip(('xmin', 'ymin', 'xmax', 'ymax'), corners))
        + '</bndbox></object>'
        for *corners, difficult in ((*o[:4], o[4:]) for o in objects)
    )
    size = f'<size>{size}</size>' if size is not None else ''
    for folder in ('JPEGImages', 'Annotations'):
        (root / folder).mkdir(exist_ok=True)
    (root / 'Annotations/a.xml').write_text(f'<annotation>{size}{text}</annotation>')
    (root / 'list.txt').write_text('a\n')
    cv2.imwrite(str(root / 'JPEGImages/a.jpg'), np.zeros((30, 40, 3), np.uint8))
    dataset = VOCDataset(
        data_root=str(root),
        ann_file='list.txt',
        data_prefix=dict(sub_data_root=''),
        metainfo=dict(classes=('red',)),
        pipeline=[],
        **options,
    )
    return dataset.get_data_info(0)


def test_voc_boxes_begin_at_1(tmp_path):
    info = voc(tmp_path, (1, 2, 12.9, 20), (5, 5, 9, 9, 1), (5, 5, 9, 9, 0))
    assert [(i['bbox'], i['ignore_flag']) for i in info['instances']] == [
        ([0, 1, 11, 19], 0),
        ([4, 4, 8, 8], 1),
        ([4, 4, 8, 8], 0),
    ]
    with pytest.raises(ValueError, match="difficult must be 0 or 1, got '2'"):
        voc(tmp_path, (1, 2, 3, 4, 2))


def test_voc_boxes_without_an_area(tmp_path):
    flat = [(5, 5, 5, 9), (5, 5, 9, 5), (9, 5, 5, 9), (5, 9, 9, 5)]
    (told,), info = told_by(lambda: voc(tmp_path, (5, 5, 6, 6), *flat, test_mode=True))
    assert 'a.xml: left out 4 box(es) without width or height' in told
    assert [i['bbox'] for i in info['instances']] == [[4, 4, 5, 5]]


def test_voc_small_boxes_are_ignored(tmp_path):
    """As many pixels as the limit are enough."""
    boxes = [(1, 1, 9, 9), (1, 1, 8, 9), (1, 1, 9, 8), (1, 1, 20, 20, 1)]
    info = voc(tmp_path, *boxes, filter_cfg=dict(bbox_min_size=8))
    assert [i['ignore_flag'] for i in info['instances']] == [0, 1, 1, 1]
    assert [i['ignore_flag'] for i in voc(tmp_path, *boxes)['instances']] == [0, 0, 0, 1]


@pytest.mark.parametrize(
    'size, expected',
    [
        ('<width>64</width><height>48</height>', (64, 48)),
        ('<width>1</width><height>1</height>', (1, 1)),
        ('<width>0</width><height>48</height>', (40, 30)),
        ('<width>64</width><height>0</height>', (40, 30)),
        (None, (40, 30)),
    ],
)
def test_voc_sizes_that_are_left_out_are_those_of_the_image(size, expected, tmp_path):
    info = voc(tmp_path, (1, 1, 3, 3), size=size)
    assert (info['width'], info['height']) == expected
    assert info['img_path'].endswith('JPEGImages/a.jpg')


# -- YOLO ---------------------------------------------------------------------
def yolo(root, labels, **options):
    """Objects of an image of 64x48 with these lines of labels."""
    for folder in ('images', 'labels'):
        (root / folder).mkdir(exist_ok=True)
    cv2.imwrite(str(root / 'images/a.png'), np.zeros((48, 64, 3), np.uint8))
    (root / 'labels/a.txt').write_text(labels)
    return YOLODataset(
        data_root=str(root), ann_file='images', metainfo=CLASSES, pipeline=[], **options
    )


@pytest.mark.parametrize(
    'labels, box',
    [
        ('2 0.5 0.5 1.0009 1', [-0.0288, 0, 64.0288, 48]),
        ('0 -0.0009 0.5 0.5 0.5', [-16.0576, 12, 15.9424, 36]),
        ('0 0 0 1 0 1 1', [0, 0, 64, 48]),
        ('0 0.5 0.5 0.5 1 0.25 0.75 0.5 0.5', [16, 24, 32, 48]),
        ('0 0.5 0.5 1.0011 1', None),
        ('0 -0.0011 0.5 0.5 0.5', None),
        ('0 0 0 1 0 1 1 0', None),
        ('0 0 0 1 0 1', None),
        ('-1 0.5 0.5 0.5 0.5', None),
    ],
)
def test_yolo_labels_at_the_limits(labels, box, tmp_path):
    """Relative to the image but for rounding; a polygon has three points or more."""
    if box is None:
        with pytest.raises(ValueError, match='labels/a.txt:1: '):
            yolo(tmp_path, labels)
        return
    (found,) = yolo(tmp_path, labels).get_data_info(0)['instances']
    assert found['bbox'] == pytest.approx(box) and found['bbox_label'] == int(labels[0])


def test_yolo_boxes_without_an_area_and_files_without_an_image(tmp_path):
    (tmp_path / 'labels').mkdir()
    for name in ('b.txt', 'classes.txt', 'notes.md'):
        (tmp_path / 'labels' / name).write_text('')
    lines = ['0 0.5 0.5 0 0.5', '0 0.5 0.5 0.5 0', '1 0.5 0.5 0.01 0.01', '0 .5 .1 .5 .2 .5 .3']
    told, dataset = told_by(lambda: yolo(tmp_path, '\n'.join(lines)))
    assert len(dataset.get_data_info(0)['instances']) == 1
    assert len(told) == 2
    assert '1 label file(s) have no image and are left out' in told[0] and 'b.txt' in told[0]
    assert told[1].endswith('images: 3 box(es) without width or height are left out')
    # a list may leave images out, and then their labels are no mistake
    (tmp_path / 'list.txt').write_text('images/a.png\n')
    options = dict(data_root=str(tmp_path), metainfo=CLASSES, pipeline=[])
    told, _ = told_by(lambda: YOLODataset(ann_file='list.txt', **options))
    assert len(told) == 1 and '3 box(es) without width' in told[0]


def test_yolo_names(tmp_path):
    """In the order of numbers, not of text; a number may be a name."""
    path = tmp_path / 'data.yaml'
    path.write_text('names:\n' + ''.join(f'  {i}: n{i}\n' for i in range(10, -1, -1)))
    assert yolo_classes(str(path)) == [f'n{i}' for i in range(11)]
    path.write_text('names: [7, b]')
    assert yolo_classes(str(path)) == ['7', 'b']
    for bad in ('names: [1.5, b]', "names: ['', b]", 'names: []', 'names: {}', '- a'):
        path.write_text(bad)
        with pytest.raises(ValueError, match='data.yaml: .*names'):
            yolo_classes(str(path))
    for name in ('data.yml', 'classes.txt', 'data.yaml'):  # the last one is the first choice
        path = tmp_path / 'more' / name
        path.parent.mkdir(exist_ok=True)
        path.write_text('x')
        assert class_file(str(path.parent)) == str(path)


@pytest.mark.parametrize(
    'names, shown',
    [
        ('[a, a, b, c, d, e, f, g, h]', "['a', 'a', 'b', 'c', 'd', 'e', 'f', 'g']"),
        ('{0: a, 2: b, 3: c, 4: d, 5: e, 6: f}', '[0, 2, 3, 4, 5]'),
        ('[[1], a, b, c, d, e]', "[[1], 'a', 'b', 'c', 'd']"),
    ],
)
def test_some_of_yolos_names_are_shown(names, shown, tmp_path):
    (tmp_path / 'data.yaml').write_text(f'names: {names}')
    with pytest.raises(ValueError) as told:
        yolo_classes(str(tmp_path / 'data.yaml'))
    assert str(told.value).endswith(shown)


@pytest.mark.parametrize(
    'labels, shown',
    [
        ('0 12 14 20 20 1 1 1 1', 'got 12 14 20 20'),
        ('x' * 99, 'not a number: ' + 'x' * 60),
        ('0 ' + '.5 ' * 9, 'got 10 values (of predictions, with a score?)'),
    ],
)
def test_some_of_a_yolo_label_is_shown(labels, shown, tmp_path):
    with pytest.raises(ValueError) as told:
        yolo(tmp_path, labels)
    assert str(told.value).endswith(shown)
