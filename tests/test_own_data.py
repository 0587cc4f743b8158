"""Data of the user's own, from files as they are to training and test."""

import json
import sys

import pytest
import samples
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from tiny import ROOT, shrink_scales, tiny_config, write_coco

from mmdiffdet.datasets.from_file import extra_coco_datasets
from mmdiffdet.engine.config_file import read_config
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
    cfg.model = tiny_config(NUM_CLASSES=cfg.model.bbox_head.num_classes)
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
    import runpy

    (own / 'train.json').unlink()
    monkeypatch.setattr(sys, 'argv', ['x', str(ROOT / 'configs/own/own_coco.py')])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / 'tools/check_dataset.py'), run_name='__main__')
    assert end.value.code == 1
    assert 'ERROR: CocoDataset: annotation file' in capsys.readouterr().out
