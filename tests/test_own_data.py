"""Data of the user's own, from files as they are to training and test."""

import json
import sys

import cv2
import numpy as np
import pytest
import samples
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from PIL import Image
from tiny import ROOT, shrink_scales, tiny_config, write_coco

from mmdiffdet.config.file import read_config
from mmdiffdet.datasets.from_file import extra_coco_datasets
from mmdiffdet.datasets.yolo import YOLODataset
from mmdiffdet.engine.data_identity import sha256_of_annotations
from mmdiffdet.engine.trainer import use_amp
from mmdiffdet.registry import DATASETS


@pytest.fixture
def own(tmp_path, monkeypatch):
    """COCO format with category ids with holes; other order in val.json."""
    root = write_coco(tmp_path / 'data')
    content = json.loads((root / 'train.json').read_text())
    for category in content['categories']:
        category['id'] *= 10
    for annotation in content['annotations']:
        annotation['category_id'] *= 10
    (root / 'train.json').write_text(json.dumps(content))
    content['categories'].reverse()
    (root / 'val.json').write_text(json.dumps(content))
    monkeypatch.setenv('OWN_ROOT', str(root))
    return root


def train_and_test(cfg, tmp_path):
    """Two iterations and a test; gives the metrics."""
    cfg.model = tiny_config(bbox_head=dict(num_classes=cfg.model.bbox_head.num_classes))
    use_amp(cfg, False)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
        shrink_scales(loader.dataset.pipeline)
    cfg.train_cfg.update(max_iters=2, val_interval=100)
    cfg.default_hooks.checkpoint.interval = 2
    cfg.work_dir = str(tmp_path / 'work')
    cfg.experiment_name = f'{tmp_path}'.replace('/', '_')
    Runner.from_cfg(cfg).train()
    cfg.load_from = str(tmp_path / 'work/iter_2.pth')
    cfg.experiment_name += '_test'
    return Runner.from_cfg(cfg).test()


def test_coco_format(own, tmp_path):
    cfg = read_config(str(ROOT / 'configs/own/own_coco.py'))
    init_default_scope('mmdiffdet')
    assert cfg.model.bbox_head.num_classes == 3
    train, val = (DATASETS.build(cfg[f'{split}_dataloader'].dataset) for split in ('train', 'val'))
    for dataset in (train, val):
        assert dataset.metainfo['classes'] == ('red', 'green', 'blue')
        assert [dataset.get_cat_ids(i)[0] for i in range(3)] == [0, 1, 2]
    metrics = train_and_test(cfg, tmp_path)
    assert 0 <= metrics['coco/bbox_mAP'] <= 1
    # the file that is left beside the log needs no train.json
    (own / 'train.json').unlink()
    left = read_config(str(next((tmp_path / 'work').glob('*.py'))))
    assert left.test_dataloader.dataset.metainfo.classes == ('red', 'green', 'blue')
    # other classes, or another order, are no test of this checkpoint
    cfg.test_dataloader.dataset.metainfo.classes = ('blue', 'green', 'red')
    cfg.experiment_name += '_bad'
    with pytest.raises(ValueError, match='red, green, blue.*blue, green, red'):
        Runner.from_cfg(cfg).test()


def test_voc_layout(tmp_path, monkeypatch):
    root = samples.write_voc(tmp_path / 'data')
    monkeypatch.setenv('OWN_ROOT', str(root / 'VOC2007'))
    monkeypatch.setenv('OWN_TRAIN', 'trainval')
    monkeypatch.setenv('OWN_VAL', 'test')
    cfg = read_config(str(ROOT / 'configs/own/own_voc.py'))
    init_default_scope('mmdiffdet')
    classes = cfg.train_dataloader.dataset.metainfo.classes
    assert classes == ('aeroplane', 'bicycle', 'bird')
    assert cfg.model.bbox_head.num_classes == 3
    metrics = train_and_test(cfg, tmp_path)
    assert {'pascal_voc/mAP', 'coco/bbox_mAP'} <= set(metrics)


def write_yolo(root, names='data.yaml'):
    """YOLO's layout of the VOC sample: three classes, one image without objects."""
    for split, count in (('train', 5), ('val', 3)):
        for folder in ('images', 'labels'):
            (root / folder / split).mkdir(parents=True)
        for i, (image, boxes) in enumerate(samples.images(count, 3)):
            cv2.imwrite(str(root / f'images/{split}/{i}.png'), image)
            lines = [
                f'{label} {(x + w / 2) / 64} {(y + h / 2) / 48} {w / 64} {h / 48}'
                for label, x, y, w, h in boxes
            ]
            (root / f'labels/{split}/{i}.txt').write_text('\n'.join(lines))
    (root / 'labels/train/4.txt').unlink()
    if names == 'data.yaml':
        (root / names).write_text('names:\n  0: red\n  1: green\n  2: blue\n')
    else:
        (root / names).write_text('red\ngreen\nblue\n')
    return root


@pytest.mark.parametrize('names', ['data.yaml', 'classes.txt'])
def test_yolo_layout(names, tmp_path, monkeypatch):
    root = write_yolo(tmp_path / 'data', names)
    monkeypatch.setenv('OWN_ROOT', str(root))
    cfg = read_config(str(ROOT / 'configs/own/own_yolo.py'))
    init_default_scope('mmdiffdet')
    assert cfg.train_dataloader.dataset.metainfo.classes == ('red', 'green', 'blue')
    assert cfg.model.bbox_head.num_classes == 3
    with pytest.warns(UserWarning, match=r'1 image\(s\) have no label file .*4.png'):
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
    assert len(dataset) == 5
    for i, (_, boxes) in enumerate(list(samples.images(5, 3))[:4]):
        info = dataset.get_data_info(i)
        assert (info['img_id'], info['width'], info['height']) == (f'{i}.png', 64, 48)
        found = [[o['bbox_label'], *o['bbox']] for o in info['instances']]
        expected = [[label, x, y, x + w, y + h] for label, x, y, w, h in boxes]
        assert found == [pytest.approx(e) for e in expected]
    if names == 'data.yaml':
        metrics = train_and_test(cfg, tmp_path)
        assert 0 <= metrics['coco/bbox_mAP'] <= 1


def test_yolo_follows_links_and_tells_of_shared_labels(tmp_path):
    root = write_yolo(tmp_path / 'data')
    (root / 'images/train/more').symlink_to(root / 'images/val')
    (root / 'images/val/round').symlink_to(root / 'images/val')
    (root / 'labels/train/more').symlink_to(root / 'labels/val')
    cv2.imwrite(str(root / 'images/train/0.jpg'), np.zeros((48, 64, 3), np.uint8))
    with pytest.warns(
        UserWarning, match=r'1 label file\(s\) are those of several images each.*0.t'
    ):
        dataset = YOLODataset(
            ann_file='images/train',
            data_root=str(root),
            metainfo=dict(classes=('red', 'green', 'blue')),
            pipeline=[],
        )
    names = [dataset.get_data_info(i)['img_id'] for i in range(len(dataset))]
    assert names[:2] == ['0.jpg', '0.png'] and names[-3:] == [f'more/{i}.png' for i in range(3)]
    assert len(names) == 9


def test_ledger_knows_which_yolo_images_were_tested(tmp_path):
    """An image without a label file, and whose labels they are, are annotations too."""
    root = write_yolo(tmp_path / 'data')
    classes = dict(classes=('red', 'green', 'blue'))

    def digest():
        return sha256_of_annotations(
            YOLODataset(
                ann_file='images/val',
                data_root=str(root),
                metainfo=classes,
                test_mode=True,
                pipeline=[],
            )
        )

    before = digest()
    assert before == digest()
    cv2.imwrite(str(root / 'images/val/3.png'), np.zeros((48, 64, 3), np.uint8))
    more = digest()
    (root / 'labels/val/2.txt').rename(root / 'labels/val/3.txt')
    assert len({before, more, digest()}) == 3


def test_yolo_lists_and_polygons(tmp_path, monkeypatch):
    """A list of images, folders as Roboflow has them, polygons, rotated photographs."""
    root = write_yolo(tmp_path / 'data')
    (root / 'train').mkdir()
    (root / 'images/train').rename(root / 'train/images')
    (root / 'labels/train').rename(root / 'train/labels')
    (root / 'train.txt').write_text('./train/images/1.png\n\ntrain/images/0.png\n')
    (root / 'train/labels/0.txt').write_text('1 0.25 0.25 0.5 0.25 0.5 0.75\n')
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.open(root / 'train/images/1.png')
    image.save(root / 'train/images/1.png', exif=exif.tobytes())
    (root / 'train/labels/1.txt').write_text('2 0.5 0.5 0.5 0.25\n')
    monkeypatch.setenv('OWN_ROOT', str(root))
    for name, count in (('train.txt', 2), ('train/images', 5)):
        monkeypatch.setenv('OWN_TRAIN', name)
        cfg = read_config(str(ROOT / 'configs/own/own_yolo_small.py'))
        init_default_scope('mmdiffdet')
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
        assert len(dataset) == count
        infos = {i['img_path'][-5:]: i for i in map(dataset.get_data_info, range(count))}
        assert infos['0.png']['instances'] == [
            dict(bbox=[16, 12, 32, 36], bbox_label=1, ignore_flag=0)
        ]
        turned = infos['1.png']
        assert (turned['width'], turned['height']) == (48, 64)
        assert turned['instances'][0]['bbox'] == [12, 24, 36, 40]


@pytest.mark.parametrize(
    'labels, message',
    [
        ('0 0.5 0.5 0.5', 'got 4 values'),
        ('0 0.5 0.5 0.5 0.5 0.9', 'got 6 values .of predictions, with a score'),
        ('3 0.5 0.5 0.5 0.5', 'class 3 is not one of 0 to 2'),
        ('0.5 0.5 0.5 0.5 0.5', 'class 0.5 is not one of'),
        ('nan 0.5 0.5 0.5 0.5', 'class nan is not one of'),
        ('0 12 14 20 20', 'relative to the image, from 0 to 1, got 12 14 20 20'),
        ('0 0.5 nan 0.5 0.5', 'relative to the image'),
        ('red 0.5 0.5 0.5 0.5', 'not a number: red'),
    ],
)
def test_bad_yolo_labels(labels, message, tmp_path, monkeypatch):
    root = write_yolo(tmp_path / 'data')
    (root / 'labels/train/2.txt').write_text('0 0.5 0.5 0.5 0.5\n' + labels)
    monkeypatch.setenv('OWN_ROOT', str(root))
    cfg = read_config(str(ROOT / 'configs/own/own_yolo.py'))
    init_default_scope('mmdiffdet')
    with pytest.raises(ValueError, match=f'labels/train/2.txt:2: .*{message}'):
        DATASETS.build(cfg.train_dataloader.dataset)


@pytest.mark.parametrize(
    'names, message',
    [
        ('names: [a, a]', 'missing or stand twice'),
        ('names: {0: a, 2: b}', 'names must count classes from 0'),
        ('nc: 3', 'it has no names of classes'),
        ('names: [', 'not YAML'),
        ('names: [[a], b]', 'names must be text'),
        (None, 'data.yaml does not exist'),
    ],
)
def test_bad_yolo_classes(names, message, tmp_path, monkeypatch):
    root = write_yolo(tmp_path / 'data')
    if names is None:
        (root / 'data.yaml').unlink()
    else:
        (root / 'data.yaml').write_text(names)
    monkeypatch.setenv('OWN_ROOT', str(root))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read_config(str(ROOT / 'configs/own/own_yolo.py'))


def test_yolo_without_labels(tmp_path, monkeypatch):
    root = write_yolo(tmp_path / 'data')
    (root / 'labels').rename(root / 'Labels')
    monkeypatch.setenv('OWN_ROOT', str(root))
    cfg = read_config(str(ROOT / 'configs/own/own_yolo.py'))
    init_default_scope('mmdiffdet')
    with pytest.raises(
        FileNotFoundError, match='no image of .* has a label file in .*labels/train'
    ):
        DATASETS.build(cfg.train_dataloader.dataset)
    assert len(DATASETS.build(cfg.val_dataloader.dataset)) == 3  # to predict on
    (root / 'data.yaml').write_text('names: [a]\ntrain: ../train/images\n')
    monkeypatch.setenv('OWN_TRAIN', 'nowhere')
    cfg = read_config(str(ROOT / 'configs/own/own_yolo.py'))
    with pytest.raises(FileNotFoundError, match=r'nowhere, .*\(data.yaml says train: ../train'):
        DATASETS.build(cfg.train_dataloader.dataset)


def run_check(monkeypatch, *arguments):
    import runpy

    monkeypatch.setattr(sys, 'argv', ['x', *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / 'tools/check_dataset.py'), run_name='__main__')
    return end.value.code


def test_classes_that_look_alike_are_told(own):
    content = json.loads((own / 'train.json').read_text())
    content['categories'].append(dict(id=77, name=' Red'))
    (own / 'train.json').write_text(json.dumps(content))
    with pytest.warns(UserWarning, match=r"classes \['red', ' Red'\] differ only in case"):
        read_config(str(ROOT / 'configs/own/own_coco.py'))


def test_check_dataset_of_every_layout(own, tmp_path, monkeypatch, capsys):
    """What training or testing would stumble over, in the exit code."""
    monkeypatch.setenv('OWN_ROOT', str(write_yolo(tmp_path / 'yolo')))
    assert run_check(monkeypatch, ROOT / 'configs/own/own_yolo.py') == 0
    text = capsys.readouterr().out
    assert '5 images' in text and 'have no label file' in text
    assert 'images without objects' not in text and 'image without objects: 1 (4.png)' in text
    monkeypatch.setenv('OWN_ROOT', str(own))
    sheet = tmp_path / 'sheet.png'
    config = ROOT / 'configs/own/own_coco.py'
    assert run_check(monkeypatch, config, '--sheet', sheet, '--samples', '1') == 0
    assert 'image to train on and to test with: 6' in capsys.readouterr().out
    assert (cv2.imread(str(sheet))[:, 700:] == 255).all()
    content = json.loads((own / 'val.json').read_text())
    content['images'][0]['id'] = 99  # its objects are of no image
    (own / 'val.json').write_text(json.dumps(content))
    assert run_check(monkeypatch, config) == 0
    assert 'left out 1 annotation(s) of images that are not listed' in capsys.readouterr().out


@pytest.mark.parametrize(
    'options, message',
    [
        (['--sheet', 'a.xyz'], '--sheet must end in .jpg or .png, got a.xyz'),
        (['--sheet', 'gone/a.jpg'], '--sheet: there is no folder gone'),
        (['--samples', '-1'], '--samples must be at least 1, got -1'),
    ],
)
def test_check_dataset_refuses_options_before_it_reads(options, message, monkeypatch, capsys):
    assert run_check(monkeypatch, 'no_config.py', *options) == 2
    assert message in capsys.readouterr().err


def test_check_dataset_tries_the_evaluation(own, monkeypatch, capsys, tmp_path):
    """A file for the metric that is not the data set's shows only there."""
    other = json.loads((own / 'val.json').read_text())
    other['images'] = other['images'][1:]
    (own / 'other.json').write_text(json.dumps(other))
    config = tmp_path / 'config.py'
    config.write_text(
        f"_base_ = '{ROOT}/configs/own/own_coco.py'\n"
        f"val_evaluator = dict(ann_file='{own}/other.json')\n"
        'model = dict(bbox_head=dict(num_classes=3))\n'
    )
    assert run_check(monkeypatch, config) == 1
    text = capsys.readouterr().out
    assert 'ERROR: evaluation fails: 1 (ValueError: CocoMetric: its annotation file is not' in text


@pytest.mark.parametrize('split', ['train', 'val'])
def test_on_bad_image_of_the_command(split, own, monkeypatch, tmp_path):
    """tools/train.py --on-bad-image reaches all data sets."""
    import runpy

    monkeypatch.setattr(
        sys, 'argv', ['train.py', str(ROOT / 'configs/own/own_coco.py'), '--on-bad-image', 'skip']
    )
    seen = []
    monkeypatch.setattr('mmdiffdet.engine.trainer.build_trainer', lambda cfg: seen.append(cfg))
    monkeypatch.setattr('mmdiffdet.engine.require_checkpoint.require_checkpoint', lambda *_: None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match='train'):  # no trainer to train
        runpy.run_path(str(ROOT / 'tools/train.py'), run_name='__main__')
    assert seen[0][f'{split}_dataloader'].dataset.on_bad_image == 'skip'


def test_an_absolute_path_of_annotations(own, tmp_path, monkeypatch):
    """Which the data set and the metric read alike."""
    monkeypatch.setenv('OWN_VAL', f'{own}/val.json')
    cfg = read_config(str(ROOT / 'configs/own/own_coco.py'))
    assert cfg.val_evaluator.ann_file == f'{own}/val.json'
    init_default_scope('mmdiffdet')
    assert len(DATASETS.build(cfg.val_dataloader.dataset))


def test_named_coco_datasets(own, tmp_path, monkeypatch):
    """By the base config's variables, and on the command line."""
    monkeypatch.setenv(
        'EXTRA_COCO_DATASETS',
        f'mine_train,{own}/train.json,{own}/images; mine_val , {own}/val.json,{own}/images;',
    )
    monkeypatch.setenv('OWN_TRAIN', 'mine_train')
    monkeypatch.setenv('OWN_VAL', 'mine_val')
    monkeypatch.setenv('OWN_ROOT', 'nowhere')
    cfg = read_config(str(ROOT / 'configs/own/own_coco.py'))
    assert cfg.test_evaluator.ann_file == f'{own}/val.json'
    init_default_scope('mmdiffdet')
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    assert dataset.get_data_info(0)['img_path'] == f'{own}/images/0.png'
    cfg = read_config(
        str(ROOT / 'configs/coco/coco.py'),
        options={
            'train_dataloader.dataset.ann_file': 'mine_train',
            'val_evaluator.ann_file': 'mine_val',
        },
    )
    assert cfg.train_dataloader.dataset.ann_file == f'{own}/train.json'
    assert cfg.val_evaluator.ann_file == f'{own}/val.json'
    assert 'val2017' in cfg.val_dataloader.dataset.ann_file
    assert cfg.model.bbox_head.num_classes == 80  # nobody asked


@pytest.mark.parametrize(
    'value, message',
    [
        ('a,b.json,c;b,c', "entry 2, 'b,c', must be name,json,images"),
        ('a,b.json,', "entry 1, 'a,b.json,', must be name,json,images"),
        ('x/a,b.json,c', 'a name without a slash'),
        ('a,b,c;a,d,e', 'repeats the name a'),
    ],
)
def test_bad_extra_coco_datasets(value, message, monkeypatch):
    monkeypatch.setenv('EXTRA_COCO_DATASETS', value)
    with pytest.raises(ValueError, match=message):
        extra_coco_datasets()


def test_bad_requests(own, monkeypatch):
    path = str(ROOT / 'configs/own/own_coco.py')
    other = json.loads((own / 'val.json').read_text())
    other['categories'].append(dict(id=7, name='grey'))
    (own / 'val.json').write_text(json.dumps(other))
    init_default_scope('mmdiffdet')
    with pytest.raises(ValueError, match="val.json has categories .'grey'"):
        DATASETS.build(read_config(path).val_dataloader.dataset)
    with pytest.raises(ValueError, match='read_config'):
        DATASETS.build(Config.fromfile(path).train_dataloader.dataset)
    with pytest.raises(ValueError, match='train_dataloader.*must ask'):
        read_config(path, options={'train_dataloader.dataset.metainfo.classes': ('red',)})
    with pytest.raises(ValueError, match='YOLODataset, not for CrowdHumanDataset'):
        read_config(path, options={'train_dataloader.dataset.type': 'CrowdHumanDataset'})
    (own / 'train.json').write_text('{\n"categories": [')
    with pytest.raises(ValueError, match='train.json:2: not JSON'):
        read_config(path)
    (own / 'train.json').write_text('[]')
    with pytest.raises(ValueError, match='train.json: not in COCO format'):
        read_config(path)
    (own / 'train.json').unlink()
    with pytest.raises(FileNotFoundError, match='train.json.*data_root'):
        read_config(path)


def test_check_dataset_tells_of_a_missing_file(own, monkeypatch, capsys):
    (own / 'train.json').unlink()
    assert run_check(monkeypatch, ROOT / 'configs/own/own_coco.py') == 1
    assert 'ERROR: CocoDataset: annotation file' in capsys.readouterr().err
