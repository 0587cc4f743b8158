"""Each data set in its own format: read, trained on, tested, recorded."""
import json

import pytest
import samples
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from tiny import ROOT, shrink_model, shrink_scales

from mmdiffdet.datasets.seeding import SeededIndex
from mmdiffdet.engine.launch import use_amp
from mmdiffdet.engine.part_hooks import count_images
from mmdiffdet.ledger import Ledger
from mmdiffdet.registry import DATASETS

# config, variable with the root, what writes the data, classes, metric keys
CASES = dict(
    lvis=('lvis/lvis', 'LVIS_ROOT', samples.write_lvis, 1203,
          ('lvis/bbox_AP', 'lvis/bbox_APr', 'lvis/bbox_APf')),
    voc=('voc/voc', 'VOC_ROOT', samples.write_voc, 20,
         ('pascal_voc/mAP', 'coco/bbox_mAP')),
    crowdhuman=('crowdhuman/crowdhuman', 'CROWDHUMAN_ROOT',
                samples.write_crowdhuman, 1,
                ('crowd_human/mAP', 'crowd_human/mMR', 'crowd_human/JI',
                 'coco/bbox_mAP')),
    objects365v1=('objects365/objects365v1', 'OBJECTS365_ROOT',
                  lambda root: samples.write_objects365(root, 1), 365,
                  ('coco/bbox_mAP', )),
    objects365v2=('objects365/objects365v2', 'OBJECTS365V2_ROOT',
                  lambda root: samples.write_objects365(root, 2), 365,
                  ('coco/bbox_mAP', )),
)


def load(name, tmp_path, monkeypatch, suffix=''):
    config, variable, write, classes, keys = CASES[name]
    if name == 'lvis':
        pytest.importorskip('lvis', reason='pip install lvis')
    monkeypatch.setenv(variable, str(write(tmp_path / 'data')))
    cfg = Config.fromfile(ROOT / f'configs/{config}{suffix}.py')
    init_default_scope('mmdiffdet')
    return cfg, classes, keys


@pytest.mark.parametrize('name', CASES)
def test_from_files_to_the_ledger(name, tmp_path, monkeypatch):
    suffix = '_d3pm_quality_amp_ema'
    cfg, classes, keys = load(name, tmp_path, monkeypatch, suffix)
    shrink_model(cfg.model, classes)
    use_amp(cfg, False)
    for loader in (cfg.train_dataloader, cfg.val_dataloader,
                   cfg.test_dataloader):
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
    cfg.custom_hooks = [
        dict(type='LedgerHook', path=str(tmp_path / 'rows.tsv'))]
    cfg.experiment_name = f'{name}_test'
    metrics = Runner.from_cfg(cfg).test()
    for key in keys:
        assert key in metrics and -1 <= metrics[key] <= 2
    row, = Ledger(tmp_path / 'rows.tsv').read()
    assert row.AP == pytest.approx(
        100 * metrics[[k for k in keys if k.endswith(('_AP', '_mAP'))][-1]])
    # what is tested and saved is the average of the weights
    saved = torch.load(cfg.load_from, weights_only=False)
    assert any(
        not torch.equal(saved['state_dict'][key.removeprefix('module.')], x)
        for key, x in saved['ema_state_dict'].items()
        if key.startswith('module.'))


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
        return dataset[SeededIndex(index, seed)][
            'data_samples'].gt_instances.bboxes.tensor

    last = len(dataset) - 1
    assert torch.equal(boxes(last, 5), boxes(last, 5))
    different = [not torch.equal(boxes(last, 5), boxes(last, s))
                 for s in (6, 7, 8, 9)]
    assert any(different)
    counts = count_images(dataset, classes)
    assert sum(c > 0 for c in counts) == 3 and max(counts) <= 24


def test_objects365_leaves_out_what_is_not_shipped(tmp_path, monkeypatch):
    cfg, _, _ = load('objects365v2', tmp_path, monkeypatch)
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    assert len(dataset) == 12
    assert dataset[0]['inputs'].shape[-2:] == (800, 1067)


def test_crowdhuman_ignores_what_is_marked(tmp_path, monkeypatch):
    cfg, _, _ = load('crowdhuman', tmp_path, monkeypatch)
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    sample = dataset[0]['data_samples']
    assert sample.gt_instances.labels.unique().tolist() == [0]
    assert len(sample.ignored_instances) == 1
    assert not list((tmp_path / 'data').glob('*.json'))


@pytest.mark.parametrize('change, message', [
    (lambda lines: lines.__setitem__(2, lines[2][:-9]),
     r'annotation_val.odgt:3: not JSON'),
    (lambda lines: lines.__setitem__(4, json.dumps(dict(ID='x'))),
     r'annotation_val.odgt:5: .*x.jpg does not exist'),
    (lambda lines: lines.__setitem__(1, '{"gtboxes": []}'),
     r"annotation_val.odgt:2: not an annotation of CrowdHuman.*'ID'"),
])
def test_bad_odgt_names_its_line(change, message, tmp_path, monkeypatch):
    cfg, _, _ = load('crowdhuman', tmp_path, monkeypatch)
    path = tmp_path / 'data/annotation_val.odgt'
    lines = path.read_text().splitlines()
    change(lines)
    path.write_text('\n'.join(lines))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        DATASETS.build(cfg.val_dataloader.dataset)
