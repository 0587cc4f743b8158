"""Each data set in its own format: read, trained on, tested, recorded."""

import json
import runpy
import sys
import warnings

import cv2
import numpy as np
import pytest
import samples
import torch
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from tiny import (
    ROOT,
    runner_config,
    shrink_model,
    shrink_scales,
    write_coco,
)

from mmdiffdet.config.file import read_config
from mmdiffdet.datasets.counts import images_per_class
from mmdiffdet.datasets.seeding import SeededIndex
from mmdiffdet.engine.trainer import use_amp
from mmdiffdet.ledger import Ledger
from mmdiffdet.registry import DATASETS

# config, variable with the root, what writes the data, classes, metric keys
CASES = dict(
    lvis=(
        'lvis/lvis',
        'LVIS_ROOT',
        samples.write_lvis,
        1203,
        ('lvis/bbox_AP', 'lvis/bbox_APr', 'lvis/bbox_APf'),
    ),
    voc=('voc/voc', 'VOC_ROOT', samples.write_voc, 20, ('pascal_voc/mAP', 'coco/bbox_mAP')),
    crowdhuman=(
        'crowdhuman/crowdhuman',
        'CROWDHUMAN_ROOT',
        samples.write_crowdhuman,
        1,
        ('crowd_human/mAP', 'crowd_human/mMR', 'crowd_human/JI', 'coco/bbox_mAP'),
    ),
    objects365v1=(
        'objects365/objects365v1',
        'OBJECTS365_ROOT',
        lambda root: samples.write_objects365(root, 1),
        365,
        ('coco/bbox_mAP',),
    ),
    objects365v2=(
        'objects365/objects365v2',
        'OBJECTS365V2_ROOT',
        lambda root: samples.write_objects365(root, 2),
        365,
        ('coco/bbox_mAP',),
    ),
)


def load(name, tmp_path, monkeypatch, parts=()):
    config, variable, write, classes, keys = CASES[name]
    if name == 'lvis':
        pytest.importorskip('lvis', reason='pip install lvis')
    monkeypatch.setenv(variable, str(write(tmp_path / 'data')))
    cfg = read_config(f'configs/{config}.py', parts=parts)
    init_default_scope('mmdiffdet')
    return cfg, classes, keys


@pytest.mark.parametrize('name', CASES)
def test_from_files_to_the_ledger(name, tmp_path, monkeypatch):
    parts = ('d3pm_quality', 'amp_ema')
    cfg, classes, keys = load(name, tmp_path, monkeypatch, parts)
    shrink_model(cfg.model, classes)
    use_amp(cfg, False)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
        for dataset in pipelines(loader.dataset):
            shrink_scales(dataset.pipeline)
    cfg.train_cfg.update(max_iters=2, val_interval=100)
    cfg.default_hooks.checkpoint.interval = 2
    cfg.work_dir = str(tmp_path / 'work')
    cfg.experiment_name = name
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert 0 < runner.message_hub.log_scalars['train/loss'].current() < 1000

    cfg.load_from = str(tmp_path / 'work/iter_2.pth')
    cfg.custom_hooks = [dict(type='LedgerHook', path=str(tmp_path / 'rows.tsv'))]
    cfg.experiment_name = f'{name}_test'
    metrics = Runner.from_cfg(cfg).test()
    for key in keys:
        assert key in metrics and -1 <= metrics[key] <= 2
    (row,) = Ledger(tmp_path / 'rows.tsv').read()
    assert row.AP == pytest.approx(
        100 * metrics[[k for k in keys if k.endswith(('_AP', '_mAP'))][-1]]
    )
    # what is tested and saved is the average of the weights
    saved = torch.load(cfg.load_from, weights_only=False)
    assert any(
        not torch.equal(saved['state_dict'][key.removeprefix('module.')], x)
        for key, x in saved['ema_state_dict'].items()
        if key.startswith('module.')
    )


def pipelines(dataset):
    """The configs of the data sets within wrappers."""
    if 'datasets' in dataset:
        return dataset.datasets
    return [dataset.dataset if 'dataset' in dataset else dataset]


@pytest.mark.parametrize('name', ['lvis', 'voc'])
def test_wrappers_hand_on_the_seed(name, tmp_path, monkeypatch):
    cfg, classes, _ = load(name, tmp_path, monkeypatch)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)

    def boxes(index, seed):
        return dataset[SeededIndex(index, seed)]['data_samples'].gt_instances.bboxes.tensor

    last = len(dataset) - 1
    assert torch.equal(boxes(last, 5), boxes(last, 5))
    different = [not torch.equal(boxes(last, 5), boxes(last, s)) for s in (6, 7, 8, 9)]
    assert any(different)
    counts = images_per_class(dataset, classes)
    assert sum(c > 0 for c in counts) == 3 and max(counts) <= 24


def test_objects365_leaves_out_what_is_not_shipped(tmp_path, monkeypatch):
    cfg, _, _ = load('objects365v2', tmp_path, monkeypatch)
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    assert len(dataset) == 12
    assert dataset[0]['inputs'].shape[-2:] == (800, 1067)


@pytest.mark.parametrize(
    'filter_cfg, test_mode, kept',
    [
        (None, False, ['a', 'b', 'c']),
        (dict(filter_empty_gt=True), False, ['a', 'c']),
        (dict(min_size=48), False, ['a', 'b', 'c']),
        (dict(min_size=49), False, []),
        (dict(filter_empty_gt=True, min_size=49), True, ['a', 'b', 'c']),
    ],
)
def test_crowdhuman_filters(filter_cfg, test_mode, kept, tmp_path):
    """Images of 64x48; b has nothing but a mask, c a box without height too."""
    box = dict(tag='person', fbox=[1, 2, 8, 9], extra={})
    lines = dict(
        a=[box],
        b=[dict(box, tag='mask')],
        c=[box, dict(box, fbox=[1, 2, 8, 0]), dict(box, fbox=[1, 2, 0, 8])],
    )
    (tmp_path / 'Images').mkdir()
    for name in lines:
        cv2.imwrite(str(tmp_path / f'Images/{name}.jpg'), np.zeros((48, 64, 3), np.uint8))
    (tmp_path / 'x.odgt').write_text(
        ''.join(json.dumps(dict(ID=k, gtboxes=v)) + '\n' for k, v in lines.items())
    )
    init_default_scope('mmdiffdet')
    cfg = dict(
        type='CrowdHumanDataset',
        data_root=str(tmp_path),
        ann_file='x.odgt',
        data_prefix=dict(img='Images/'),
        filter_cfg=filter_cfg,
        test_mode=test_mode,
    )
    if not kept:
        with pytest.raises(ValueError, match='no image is left'):
            DATASETS.build(cfg)
        return
    dataset = DATASETS.build(cfg)
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    assert [info['img_id'] for info in infos] == kept
    objects = {info['img_id']: info['instances'] for info in infos}
    assert [(o['bbox'], o['bbox_label'], o['ignore_flag']) for o in objects['c']] == [
        ([1, 2, 9, 11], 0, 0)
    ]
    if 'b' in objects:
        assert [(o['bbox_label'], o['ignore_flag']) for o in objects['b']] == [(-1, 1)]


def test_crowdhuman_ignores_what_is_marked(tmp_path, monkeypatch):
    cfg, _, _ = load('crowdhuman', tmp_path, monkeypatch)
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    sample = dataset[0]['data_samples']
    assert sample.gt_instances.labels.unique().tolist() == [0]
    assert len(sample.ignored_instances) == 1
    assert not list((tmp_path / 'data').glob('*.json'))


@pytest.mark.parametrize(
    'change, message',
    [
        (lambda lines: lines.__setitem__(2, lines[2][:-9]), r'annotation_val.odgt:3: not JSON'),
        (
            lambda lines: lines.__setitem__(4, json.dumps(dict(ID='x', gtboxes=[]))),
            r'annotation_val.odgt:5: .*x.jpg does not exist',
        ),
        (
            lambda lines: lines.__setitem__(3, lines[3].replace('fbox": [', 'fbox": [1, ')),
            r'annotation_val.odgt:4: not an annotation of CrowdHuman',
        ),
        (
            lambda lines: lines.__setitem__(1, '{"gtboxes": []}'),
            r"annotation_val.odgt:2: not an annotation of CrowdHuman.*'ID'",
        ),
    ],
)
def test_bad_odgt_names_its_line(change, message, tmp_path, monkeypatch):
    cfg, _, _ = load('crowdhuman', tmp_path, monkeypatch)
    path = tmp_path / 'data/annotation_val.odgt'
    lines = path.read_text().splitlines()
    change(lines)
    path.write_text('\n'.join(lines))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        DATASETS.build(cfg.val_dataloader.dataset)


def coco(folder, **changes):
    """The COCO-format squares with a changed annotation file."""
    write_coco(folder)
    path = folder / 'train.json'
    content = json.loads(path.read_text())
    for key, change in changes.items():
        change(content[key])
    path.write_text(json.dumps(content))
    return dict(
        type='CocoDataset',
        data_root=f'{folder}/',
        ann_file='train.json',
        data_prefix=dict(img='images/'),
        metainfo=dict(classes=('red', 'green', 'blue')),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=[],
    )


def test_losses_of_coco_annotations_are_counted(tmp_path):
    def spoil(annotations):
        annotations[0]['bbox'] = [5, 5, 0, 9]
        annotations[1]['bbox'] = [500, 5, 9, 9]
        annotations[2]['image_id'] = 77
        annotations[3]['category_id'] = 99

    init_default_scope('mmdiffdet')
    with pytest.warns(UserWarning) as told:
        dataset = DATASETS.build(coco(tmp_path, annotations=spoil))
    text = ' '.join(str(w.message) for w in told)
    assert 'left out 1 annotation(s) of images that are not listed' in text
    assert 'left out 2 box(es) without area' in text
    assert 'left out 1 annotation(s) of categories' in text
    assert sum(len(dataset.get_cat_ids(i)) for i in range(len(dataset))) == 2


def test_category_ids_with_holes(tmp_path):
    def spread(items, key):
        for item in items:
            item[key] *= 7

    init_default_scope('mmdiffdet')
    dataset = DATASETS.build(
        coco(
            tmp_path,
            categories=lambda c: spread(c, 'id'),
            annotations=lambda a: spread(a, 'category_id'),
        )
    )
    assert [dataset.get_cat_ids(i) for i in range(3)] == [[0], [1], [2]]


@pytest.mark.parametrize(
    'spoil, message',
    [
        (lambda path: path.write_text('{\n"images": [\n}'), 'train.json:3: not JSON'),
        (lambda path: path.write_text('[1]'), 'train.json: not in COCO format'),
        (
            lambda path: path.write_text(path.read_text().replace('"width": 64', '"width": 1')),
            'no image is left after filter_cfg',
        ),
        (
            lambda path: path.write_text(path.read_text().replace('images', 'imgs')),
            'train.json: not in COCO format: it has no images',
        ),
        (
            lambda path: path.write_text(path.read_text().replace('"categories"', '"classes"')),
            'train.json: not in COCO format: it has no categories',
        ),
        (
            lambda path: path.write_text(
                path.read_text().replace('"file_name": "3.png"', '"name": "3.png"')
            ),
            'train.json: image id 3: file_name is missing',
        ),
        (
            lambda path: path.write_text(path.read_text().replace('"area": 256', '"area": "wide"')),
            'train.json: annotation id 1 of image id 0: area must be a number of .*, got "wide"',
        ),
        (
            lambda path: path.write_text(path.read_text().replace(', 16, 16]', ', 16]')),
            'annotation id 1 of image id 0: bbox must be four numbers',
        ),
        (
            lambda path: path.write_text(path.read_text().replace(', 16, 16]', ', Infinity, 16]')),
            'image id 0: bbox must be four numbers .* that are finite, got .*Infinity',
        ),
        (
            lambda path: path.write_text(
                path.read_text().replace('"id": 5, "file', '"id": 4, "file')
            ),
            r'image ids \[4\] stand twice',
        ),
    ],
)
def test_bad_coco_files(spoil, message, tmp_path):
    init_default_scope('mmdiffdet')
    cfg = coco(tmp_path)
    spoil(tmp_path / 'train.json')
    with pytest.raises(ValueError, match=message), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        DATASETS.build(cfg)


def test_check_dataset_finds_what_is_wrong(tmp_path, monkeypatch, capsys):
    folder = tmp_path / 'data'

    def spoil(annotations):
        annotations[1]['bbox'] = [40, 5, 30, 20]  # over the border
        annotations.append(dict(annotations[2], id=99))

    cfg = coco(folder, annotations=spoil)
    cfg['metainfo']['classes'] += ('grey',)
    content = json.loads((folder / 'train.json').read_text())
    content['categories'].append(dict(id=4, name='grey'))
    content['images'].append(dict(content['images'][0], id=50))
    content['annotations'].append(dict(content['annotations'][0], id=98, image_id=50))
    (folder / 'train.json').write_text(json.dumps(content))
    (folder / 'images/3.png').write_bytes(b'no image')
    cv2.imwrite(str(folder / 'images/4.png'), np.zeros((20, 30, 3), np.uint8))
    config = tmp_path / 'config.py'
    config.write_text(
        f'train_dataloader = dict(dataset=dict(type="RepeatDataset", times=2, '
        f'dataset={cfg!r}))\n'
        'model = dict(train_cfg=dict(num_proposals=1))\n'
    )
    monkeypatch.setattr(
        sys,
        'argv',
        [
            'check_dataset.py',
            str(config),
            '--splits',
            'train',
            '--sheet',
            str(tmp_path / 'sheet.jpg'),
        ],
    )
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / 'tools/check_dataset.py'), run_name='__main__')
    text = capsys.readouterr().out
    assert end.value.code == 1
    for line in (
        '7 images, 8 objects, 0 ignored',
        'ERROR: unreadable image: 1 (3.png cannot be decoded',
        'ERROR: image of another size than annotated: 1 (4.png: 30x20 instead of 64x48)',
        'warning: box out of the image: 1 (1.png [40',
        'warning: box that stands twice: 1 (2.png',
        'warning: image that stands twice: 1 (0.png)',
        'warning: image with more objects than proposals (1; raise '
        'num_proposals of model.train_cfg and model.test_cfg): 1 '
        '(2.png: 2)',
        '1 classes without objects (their AP is n/a): grey',
    ):
        assert line in text, text
    assert cv2.imread(str(tmp_path / 'sheet.jpg')).shape == (480, 1280, 3)


@pytest.mark.parametrize(
    'old, new, message',
    [
        ('<annotation>', '<annotation', 'xml: not well-formed XML .*line 1'),
        ('<xmax>', '<xmaximum>', 'xml: not well-formed XML .*line 1'),
        ('<ymin>', '<ymin>x', "xml: not an annotation of VOC.*'x"),
        ('bndbox', 'box', 'xml: not an annotation of VOC'),
        ('<width>64</width>', '', 'xml: not an annotation of VOC'),
    ],
)
def test_bad_xml_names_its_file(old, new, message, tmp_path, monkeypatch):
    cfg, _, _ = load('voc', tmp_path, monkeypatch)
    path = tmp_path / 'data/VOC2007/Annotations/2007_test_000004.xml'
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match='2007_test_000004.' + message):
        DATASETS.build(cfg.val_dataloader.dataset)


def test_images_of_one_pixel(tmp_path):
    """Mirrored, trained on and tested; iscrowd may be missing."""
    root = write_coco(tmp_path / 'data')
    content = json.loads((root / 'train.json').read_text())
    for image in content['images']:
        image.update(width=1, height=1)
        cv2.imwrite(f'{root}/images/{image["file_name"]}', np.zeros((1, 1, 3), np.uint8))
    for annotation in content['annotations']:
        annotation.update(bbox=[0, 0, 1, 1], area=1)
        del annotation['iscrowd']
    (root / 'train.json').write_text(json.dumps(content))
    cfg = runner_config(root, tmp_path)
    cfg.train_dataloader.dataset.pipeline[3].prob = 1.0
    cfg.experiment_name = 'one_pixel'
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.message_hub.log_scalars['train/loss'].current() > 0
    assert 0 <= runner.test()['coco/bbox_mAP'] <= 1
