"""What check_dataset finds, just before and just beyond each limit."""

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from tiny import write_coco

from mmdiffdet.datasets import check_config
from mmdiffdet.datasets.checks import DatasetReport, check_dataset


class Images:
    """A data set of images that are there, and of what is said of each."""

    metainfo = dict(classes=('red', 'green'))

    def __init__(self, folder, *infos, **attributes):
        self.infos = []
        for i, info in enumerate(infos):
            info = dict(dict(height=48, width=64, instances=[]), **info)
            info.setdefault('img_path', str(folder / f'{i}.png'))
            image = np.zeros((info['height'], info['width'], 3), np.uint8)
            cv2.imwrite(info['img_path'], image)
            self.infos.append(info)
        self.prepared = []
        vars(self).update(attributes)

    def __len__(self):
        return len(self.infos)

    def get_data_info(self, index):
        return self.infos[index]

    def prepare_data(self, index):
        self.prepared.append(index)


def box(*corners, label=0, **more):
    return dict(bbox=list(corners), bbox_label=label, **more)


def found_in(folder, *infos, proposals=None, **attributes):
    return check_dataset(Images(folder, *infos, **attributes), proposals).found


@pytest.mark.parametrize(
    'corners, kind',
    [
        ((-1, -1, 65, 49), None),
        ((-1.01, 0, 9, 9), 'box out of the image'),
        ((0, -1.01, 9, 9), 'box out of the image'),
        ((0, 0, 65.01, 9), 'box out of the image'),
        ((0, 0, 9, 49.01), 'box out of the image'),
        ((3, 3, 4, 4), None),
        ((3, 3, 3.99, 9), 'box below a pixel'),
        ((3, 3, 9, 3.99), 'box below a pixel'),
        ((3, 3, 3, 9), 'box without area'),
        ((3, 9, 9, 9), 'box without area'),
        ((9, 3, 3, 9), 'box without area'),
    ],
)
def test_boxes_at_the_limits(corners, kind, tmp_path):
    """An image of 64x48, whose border boxes may cross by a pixel."""
    found = found_in(tmp_path, dict(instances=[box(*corners)]))
    assert list(found) == ([kind] if kind else [])
    if kind == 'box out of the image':
        outside = dict(instances=[box(*corners)])
        assert not found_in(tmp_path, outside, BOXES_END_INSIDE=False)


def test_boxes_twice_are_of_one_class(tmp_path):
    places = [box(1, 2, 9.26, 9), box(1, 2, 9.26, 9, label=1), box(1, 2, 9, 9)]
    assert not found_in(tmp_path, dict(instances=places), dict(instances=places))
    found = found_in(tmp_path, dict(instances=[*places, places[0]]))
    assert found == {'box that stands twice': ['0.png [1.0, 2.0, 9.3, 9.0]']}


def test_objects_are_counted(tmp_path):
    """Ignored ones are none, and no sign of a mistake."""
    ignored = box(-9, 0, -9, 0, ignore_flag=1)
    infos = dict(instances=[box(1, 1, 9, 9), ignored]), dict(instances=[box(1, 1, 9, 9, label=1)])
    report = check_dataset(Images(tmp_path, *infos, dict(instances=[ignored])))
    assert (report.images, report.objects, report.ignored) == (3, 2, 2)
    assert report.by_class == dict(red=1, green=1)
    assert report.found == {} and not report.failed


def test_images_at_the_limits(tmp_path):
    one = [box(1, 1, 9, 9)]
    sizes = [(32, 32), (31, 64), (64, 31)]
    found = found_in(tmp_path, *(dict(height=h, width=w, instances=one) for h, w in sizes))
    assert found == {'image with a side below 32 pixels': ['1.png', '2.png']}
    twice = [dict(img_path=str(tmp_path / f'{n}.png'), instances=one) for n in 'aabcb']
    assert found_in(tmp_path, *twice) == {'image that stands twice': ['a.png', 'b.png']}


def test_more_objects_than_proposals(tmp_path):
    """As many are enough; the most crowded image comes first."""
    infos = [dict(instances=[box(i, 1, 20, 20) for i in range(n)]) for n in (2, 3, 1, 5, 4)]
    (places,) = found_in(tmp_path, *infos, proposals=2).values()
    assert places == ['3.png: 5', '4.png: 4', '1.png: 3']
    assert found_in(tmp_path, *infos) == {}
    infos[0] = dict(instances=[box(i, 1, 20, 20, ignore_flag=1) for i in range(9)])
    assert len(found_in(tmp_path, *infos, proposals=5)) == 0


@pytest.mark.parametrize('policy', ['stop', 'skip'])
def test_bad_images_are_errors_where_they_stop(policy, tmp_path):
    dataset = Images(tmp_path, *[dict(instances=[box(1, 1, 9, 9)])] * 3, on_bad_image=policy)
    (tmp_path / '0.png').unlink()
    (tmp_path / '1.png').write_bytes(b'no image')
    dataset.infos[2]['width'] = 65
    report = check_dataset(dataset)
    kinds = {'image that does not exist', 'unreadable image'}
    kinds.add('image of another size than annotated')
    assert set(report.found) == kinds
    assert report.errors == (kinds if policy == 'stop' else set()) and dataset.prepared == []


def test_the_pipeline_sees_the_extremes(tmp_path):
    """The narrowest and widest, the smallest and largest, the emptiest and fullest."""
    sizes = [(50, 50), (40, 90), (90, 40), (33, 34), (100, 101), (50, 52), (50, 51)]
    counts = [2, 2, 2, 2, 2, 1, 3]
    infos = [
        dict(height=h, width=w, instances=[box(i, 1, 20, 20) for i in range(n)])
        for (h, w), n in zip(sizes, counts)
    ]
    dataset = Images(tmp_path, *infos)
    assert check_dataset(dataset).found == {}
    assert dataset.prepared == [1, 2, 3, 4, 5, 6]

    def fail(index):
        if index == 3:
            raise KeyError('x')

    report = check_dataset(Images(tmp_path, *infos, prepare_data=fail))
    assert report.found == {'image that the pipeline fails on': ["3.png: KeyError 'x'"]}
    assert report.failed


def test_a_report_shows_examples_and_frequent_classes():
    few = DatasetReport(by_class={f'class {i}': i for i in range(30)})
    assert len(few.text().splitlines()) == 1 + 30 + 1  # and the one without objects
    many = DatasetReport(by_class={f'class {i}': i for i in range(31)})
    lines = many.text().splitlines()
    assert lines[1] == '31 classes, the most frequent:'
    assert lines[2:12] == [f'  class {i} {i}' for i in range(30, 20, -1)]
    assert lines[12].startswith('1 classes without objects') and len(lines) == 13
    for count, shown in ((3, 'a, b, c'), (4, 'a, b, c, ...')):
        report = DatasetReport()
        for place in 'abcd'[:count]:
            report.note('odd', place)
        assert report.text().splitlines()[1] == f'warning: odd: {count} ({shown})'


def test_a_tile_shows_the_boxes(tmp_path):
    """Twice as large, in the class's colour (BGR from an RGB palette), ignored ones grey."""
    height, width = 100, 160
    instances = [box(40, 30, 90, 50, label=1), box(100, 60, 150, 90, label=-1, ignore_flag=1)]
    metainfo = dict(classes=('a', 'b'), palette=[(1, 2, 3), (10, 20, 30)])
    info = dict(height=height, width=width, instances=instances)
    tile = check_config._draw(Images(tmp_path, info, metainfo=metainfo), 0)
    assert tile.shape == (240, 320, 3) and (tile[200:] == 255).all()
    for (x1, y1, x2, y2), colour in (
        ((80, 60, 180, 100), (30, 20, 10)),
        ((200, 120, 300, 180), (128, 128, 128)),
    ):
        edges = [tile[y1:y2, x1], tile[y1:y2, x2], tile[y1, x1:x2], tile[y2, x1:x2]]
        assert all((edge == colour).all() for edge in edges)
        assert (tile[y1 + 1 : y2, x1 + 1 : x2] == 0).all()  # the name stands above
        assert (tile[y1 - 12 : y1, x1:x2] == colour).all(-1).any()
    # an image without the data set's palette, and one that is not there
    top = Images(tmp_path, dict(info, instances=[box(0, 0, 150, 90, label=1)]))
    tile = check_config._draw(top, 0)
    orange = (14, 127, 255)  # Matplotlib's second colour, #ff7f0e
    assert (tile[0, :300] == orange).all()
    assert (tile[1:8, 1:60] == orange).all(-1).any()  # its name is inside of the image
    (tmp_path / '0.png').unlink()
    assert not check_config._draw(top, 0).any()


@pytest.mark.parametrize('count, rows, white', [(1, 1, 3), (4, 1, 0), (5, 2, 3), (6, 2, 2)])
def test_a_sheet_has_rows_of_four(count, rows, white, tmp_path):
    tiles = [np.full((24, 32, 3), 9 * i, np.uint8) for i in range(count)]
    check_config._write_sheet(tiles, tmp_path / 'a.png')
    sheet = cv2.imread(str(tmp_path / 'a.png'))
    assert sheet.shape == (24 * rows, 128, 3)
    places = [sheet[24 * (i // 4), 32 * (i % 4), 0] for i in range(4 * rows)]
    assert places == [9 * i for i in range(count)] + [255] * white


def config_of(root, **changes):
    dataset = dict(
        type='CocoDataset',
        data_root=f'{root}/',
        ann_file='train.json',
        data_prefix=dict(img='images/'),
        metainfo=dict(classes=('red', 'green', 'blue')),
        pipeline=[dict(type='LoadImageFromFile')],
    )
    init_default_scope('mmdiffdet')
    loader = dict(dataset=dataset)
    return Config(dict(dict(train_dataloader=loader, val_dataloader=loader), **changes))


def test_each_split_has_its_own_limit_of_objects(tmp_path, capsys):
    """That of training for train, that of tests for the others; classes are those of the head."""
    root = write_coco(tmp_path / 'data', 3)
    text = (root / 'train.json').read_text()
    (root / 'train.json').write_text(text.replace('"image_id": 2', '"image_id": 1'))
    model = dict(train_cfg=dict(num_proposals=2), test_cfg=dict(num_proposals=1))
    cfg = config_of(root, model=dict(model, bbox_head=dict(num_classes=3)))
    assert not check_config.check_config(cfg, ['train', 'test'])
    printed = capsys.readouterr().out
    assert 'more objects' not in printed and 'test: the config has no test_dataloader' in printed
    assert not check_config.check_config(cfg, ['val'])
    assert 'more objects than proposals (1;' in capsys.readouterr().out
    cfg.model.bbox_head.num_classes = 4
    sheet = tmp_path / 'sheet.png'
    assert check_config.check_config(cfg, ['val'], sheet, 2)
    assert 'num_classes is not the number of classes: 1 (4, the data set has 3)' in (
        capsys.readouterr().out
    )
    # of three images the first and the last
    tiles = cv2.imread(str(sheet))
    for tile, name in enumerate('02'):
        image = cv2.imread(str(root / f'images/{name}.png'))
        part = tiles[239, 320 * tile : 320 * tile + 320]
        np.testing.assert_allclose(part.mean(0), image[47].mean(0), atol=3)
    assert (tiles[:, 640:] == 255).all()
    # a split that fails is not forgotten after one that does not
    cfg.val_dataloader.dataset.ann_file = 'gone.json'
    cfg.model.bbox_head.num_classes = 3
    assert check_config.check_config(cfg, ['val', 'train'])


@pytest.mark.parametrize(
    'values, noted',
    [
        (dict(coco_bbox_mAP=0.99), False),
        (dict(coco_bbox_mAP=0.98), True),
        (dict(coco_bbox_mAP=0.0), True),
        (dict(coco_bbox_mAP=-1.0), False),  # no object to find
        (dict(coco_bbox_mAP_s=0.5), False),
    ],
)
def test_a_metric_that_cannot_reach_1_is_told(values, noted, monkeypatch):
    monkeypatch.setattr(check_config, 'rehearse', lambda *_: values)
    report = DatasetReport()
    check_config._check_evaluation({}, None, report)
    assert bool(report.found) == noted and not report.failed


@pytest.mark.parametrize('parts, evaluated', [(1, 1), (2, 0)])
def test_only_what_is_tested_alone_is_evaluated(parts, evaluated, tmp_path, monkeypatch, capsys):
    """Never training, nor a part of several data sets: a metric is of all of them."""
    seen = []
    monkeypatch.setattr(check_config, 'rehearse', lambda *args: seen.append(args) or {})
    cfg = config_of(write_coco(tmp_path / 'data', 2))
    dataset = cfg.val_dataloader.dataset
    if parts == 2:
        cfg.val_dataloader = dict(dataset=dict(type='ConcatDataset', datasets=[dataset] * 2))
    cfg.train_evaluator = cfg.val_evaluator = dict(type='CocoMetric')
    assert not check_config.check_config(cfg, ['train', 'val'])
    assert len(seen) == evaluated
    # the same images in both splits are no test
    assert 'image to train on and to test with: 2' in capsys.readouterr().out
