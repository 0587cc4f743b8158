"""Cases, rows and views of a test, each at its limits."""

from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from ledger_rows import ROW
from mmengine.config import Config, ConfigDict
from tiny import build, tiny_config
from torch import nn

from mmdiffdet.engine import multi_seed_test_loop
from mmdiffdet.engine.data_identity import name_of_data
from mmdiffdet.engine.ledger_hook import LedgerHook, _percent
from mmdiffdet.engine.test_case import TestCase
from mmdiffdet.engine.test_time_aug import use_tta
from mmdiffdet.ledger import Ledger


def loop_of(model, ways, tta=None):
    """A loop as its cases see it."""
    loop = multi_seed_test_loop.MultiSeedTestLoop.__new__(multi_seed_test_loop.MultiSeedTestLoop)
    cfg = Config(dict(model=dict(sampler=tiny_config().sampler)))
    loop.__dict__.update(_runner=SimpleNamespace(model=model, cfg=cfg), _ways=ways, tta=tta)
    return loop


@pytest.mark.parametrize(
    'ways, told',
    [
        ((None, ({},)), 0),
        (([3], ({},)), 0),
        (([0, 1], ({},)), 1),
        ((None, ({}, {})), 1),
    ],
)
def test_a_detector_that_does_not_sample_is_tested_once(ways, told, monkeypatch):
    lines = []
    monkeypatch.setattr(multi_seed_test_loop, 'print_log', lambda *args: lines.append(args))
    [case] = loop_of(nn.Linear(1, 1), ways).cases
    assert len(lines) == told and case.eval_seed == 0
    assert case.protocol == dict(sample_step=1, scheduler='none', eta=None)
    assert TestCase('x', ConfigDict()).variant is None


def test_numbers_of_proposals_in_a_test():
    model = build(tiny_config())
    [case] = loop_of(model, ([4], [dict(num_proposals=1)])).cases
    assert (case.variant.num_proposals, case.variant.eval_seed) == (1, 4)
    assert case.name == 'seed4_step1_variant0'
    with pytest.raises(ValueError, match='num_proposals must be at least 1, got 0'):
        assert loop_of(model, ([4], [dict(num_proposals=0)])).cases


def test_images_of_a_batch_are_counted_once():
    assert loop_of(None, None)._num_images(dict(inputs=[1, 2, 3])) == 3
    views = [[1, 2], [1, 2], [1, 2]]
    assert loop_of(None, None, tta={})._num_images(dict(inputs=views)) == 2


def test_a_test_has_one_ledger(tmp_path):
    loop = loop_of(nn.Linear(1, 1), None)
    loop.runner.hooks = [LedgerHook(str(tmp_path / name)) for name in ('a.tsv', 'b.tsv')]
    loop.runner.call_hook = Mock()
    with pytest.raises(ValueError, match='a test has one LedgerHook'):
        loop.run()


def test_a_row_that_was_kept_is_told_if_it_differs(tmp_path):
    hook, runner = LedgerHook(str(tmp_path / 'l.tsv')), Mock()
    hook.append(runner, [ROW])
    hook.append(runner, [replace(ROW, seconds_per_image=9.0)])
    runner.logger.warning.assert_not_called()
    hook.append(runner, [replace(ROW, AP=12.0)])
    [call] = runner.logger.warning.call_args_list
    assert 'AP 12.0 now, ' in call.args[0] and 'the row was kept' in call.args[0]
    assert Ledger(tmp_path / 'l.tsv').read() == [ROW]


def test_an_ap_of_zero_is_a_result():
    assert _percent(0.0) == 0.0 and _percent(0.5) == 50.0 and _percent(-1.0) is None


def test_names_of_data_sets():
    def of(file, root):
        return SimpleNamespace(ann_file=file, data_root=root)

    both = SimpleNamespace(datasets=[of('data/a/val.json', 'data/'), of('data/b.json', None)])
    assert name_of_data(both) == 'SimpleNamespace a/val.json + SimpleNamespace data/b.json'


LOAD, PACK = dict(type='LoadImageFromFile'), dict(type='PackDetInputs')
RESIZE = dict(type='Resize', scale=(64, 48), keep_ratio=True)


def augmented(*pipeline):
    loader = dict(dataset=dict(type='CocoDataset', pipeline=list(pipeline)))
    cfg = Config(dict(test_cfg={}, test_dataloader=loader))
    use_tta(cfg)
    return cfg.test_cfg.tta, cfg.test_dataloader.dataset.pipeline


def test_views_of_a_plain_test():
    """0.8 and 1.25 of its scale besides it, and the mirror image of each."""
    annotations = dict(type='LoadAnnotations')
    tta, pipeline = augmented(LOAD, RESIZE, annotations, dict(PACK, meta_keys=('img_id', 'flip')))
    assert tta.type == 'DiffusionDetTTA'
    nms = dict(type='nms', iou_threshold=0.5)
    assert tta.tta_cfg == dict(nms=nms, max_per_img=100)
    load, views = pipeline
    sizes, flips, notes, pack = views.transforms
    assert load == LOAD and notes == [annotations]
    assert [tuple(size.scale) for size in sizes] == [(64, 48), (51, 38), (80, 60)]
    assert all(size.keep_ratio for size in sizes)
    assert [flip.prob for flip in flips] == [0, 1]
    assert tuple(pack[0].meta_keys) == ('img_id', 'flip', 'flip_direction')
    _, pipeline = augmented(RESIZE, PACK)
    keys = pipeline[0].transforms[-1][0].meta_keys
    assert tuple(keys[-3:]) == ('scale_factor', 'flip', 'flip_direction') and len(keys) == 7


@pytest.mark.parametrize(
    'pipeline', [(LOAD, RESIZE), (RESIZE, PACK, LOAD), (dict(type='Resize', scale_factor=2), PACK)]
)
def test_pipelines_that_make_no_views(pipeline):
    with pytest.raises(ValueError, match='no Resize with a scale, or does not end'):
        augmented(*pipeline)


def test_a_pipeline_of_views_stays():
    views = dict(type='TestTimeAug', transforms=[[RESIZE], [PACK]])
    assert augmented(LOAD, views)[1] == [LOAD, views]
