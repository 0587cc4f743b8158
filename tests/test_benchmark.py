"""The benchmark measures what it says it measures."""

import json
import runpy
import sys
import time
from functools import partial

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from tiny import ROOT, batch, build, runner_config, tiny_config, write_coco
from torch import nn

from mmdiffdet import benchmark as bench
from mmdiffdet.benchmark.measure import PartTimer
from mmdiffdet.diffusion.box_schedulers import build_box_scheduler, same_process
from mmdiffdet.engine.precision import PRECISIONS
from mmdiffdet.fast import products
from mmdiffdet.ledger import Ledger


def config():
    cfg = Config.fromfile(ROOT / 'configs/demo/demo.py')
    cfg.model = tiny_config()
    return cfg


def test_ways_take_turns_and_states_are_not_timed():
    order = []

    class State:
        def __enter__(self):
            time.sleep(0.05)

        def __exit__(self, *_):
            order.append('left')

    found = bench.interleave(
        dict(a=lambda: order.append('a'), b=lambda: order.append('b')), 2, dict(b=State)
    )
    forth, back = ['a', 'b', 'left'], ['b', 'left', 'a']
    assert order == back + forth + back  # nobody is always first
    assert len(found['a']) == 2 and max(found['a'] + found['b']) < 0.05


def test_parts_are_timed_where_they_run():

    class Slow(nn.Module):
        def forward(self, x):
            time.sleep(0.01)
            return x

    model = nn.Sequential(Slow(), Slow(), nn.Identity())
    found = bench.interleave_parts(
        dict(way=dict(slow=[model[0], model[1]], quick=[model[2]])),
        dict(way=lambda: model(torch.zeros(1))),
        2,
    )['way']
    assert min(found['slow']) >= 0.02 > max(found['quick'])
    assert len(found['rest']) == 2 and max(found['rest']) < 0.02
    assert not model[0]._forward_hooks
    with PartTimer(dict(slow=[model[0]])) as timer:
        model(torch.zeros(1))
    assert timer.seconds['slow'] < min(found['slow'])


def test_operations_are_counted():
    a, b = torch.rand(3, 5), torch.rand(5, 7)
    assert bench.count_flops(lambda: a @ b) == 2 * 3 * 5 * 7


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='memory of Linux')
def test_memory_is_that_of_the_call():
    size = 64 * 2**20
    found = bench.peak_memory(lambda: torch.ones(size // 4).sum())
    assert size * 0.9 < found < size * 1.5


def test_the_baseline_says_the_same():
    pair = bench.build_pair(config())
    ours, baseline = pair['ours'], pair['baseline']
    assert type(baseline.bbox_head.roi_extractor).__name__ == 'SingleRoIExtractor'
    data = batch()
    variants = bench.sampling_variants(config(), 2, seeds=(0, 1))
    with bench.testing(ours, 'fp32'):
        mine = ours.test_variants(data, variants)
    with bench.baseline_testing(baseline):
        assert not any('fast' in type(m).__module__ for m in baseline.modules())
        theirs = baseline.test_variants(data, variants)
    for a, b in zip(sum(mine, []), sum(theirs, [])):
        a, b = a.pred_instances, b.pred_instances
        assert len(a) > 0
        torch.testing.assert_close(a.bboxes, b.bboxes, atol=1e-2, rtol=0)
        torch.testing.assert_close(a.scores, b.scores, atol=1e-4, rtol=0)


@pytest.mark.parametrize('way', ['ours', 'baseline'])
def test_what_the_ways_compute_in_testing(way):
    """The baseline's maps have channels first, all its stages classify."""
    model = bench.build_pair(config())[way]
    strides, classified = [], []
    model.backbone.conv1.register_forward_pre_hook(
        lambda _, args: strides.append(args[0].stride(1))
    )
    for stage in model.bbox_head.head_series:
        stage.cls_module.register_forward_hook(lambda *_: classified.append(1))
    state = bench.testing(model, 'fp32') if way == 'ours' else bench.baseline_testing(model)
    with state:
        strides.clear()
        classified.clear()
        [variant] = bench.sampling_variants(config(), 1)
        model.test_variants(batch([(64, 96)], [1]), [variant])
    if way == 'ours':
        assert strides == [1] and len(classified) == 1
    else:
        assert strides == [64 * 96]
        assert len(classified) == len(model.bbox_head.head_series) > 1


def test_all_operations_of_the_head_are_counted():
    """In testing other kernels run than with gradients."""
    model = bench.build_pair(config(), baseline=False)['ours']
    with bench.testing(model, 'fp32'):
        step = bench.inference_parts(model, bench.demo_batch((64, 96), 1, 3))['head, one step']
        found = bench.count_flops(step)
        with torch.enable_grad():
            assert bench.count_flops(step) == found > 0


def test_a_batch_of_one_class():
    for num_classes in (1, 2):
        data = bench.demo_batch((64, 96), 4, num_classes)
        labels = torch.cat([s.gt_instances.labels for s in data['data_samples']])
        assert set(labels.tolist()) == set(range(num_classes))


def test_another_extractor_has_no_baseline():
    cfg = config()
    cfg.model.bbox_head.roi_extractor.type = 'mmdet.SingleRoIExtractor'
    with pytest.raises(ValueError, match='GatherRoIExtractor'):
        bench.build_pair(cfg)


def test_a_consistency_model_is_not_timed():
    cfg = config()
    cfg.custom_hooks = [dict(type='ConsistencyModelHook')]
    cfg = Config(cfg._cfg_dict)
    model = bench.build_pair(cfg, baseline=False)['ours']
    with pytest.raises(ValueError, match='ConsistencyModelHook: .* are not timed'):
        bench.training_way(cfg, model, bench.demo_batch((64, 96), 2, 3), 'fp32')


def test_curves_of_a_flow_are_of_flows():
    """Solvers of diffusion would see noise of another kind than in training."""
    scheduler = build_box_scheduler(dict(type='FlowMatchEulerDiscreteScheduler'))
    variants = bench.curve_variants([1, 2], 12, 2, scheduler)
    solvers = {key[1]: change for key, change in variants.items() if key[0] == 'solver'}
    assert len(solvers) > 1
    for change in solvers.values():
        changed = build_box_scheduler(
            dict(type='FlowMatchEulerDiscreteScheduler', **change.get('scheduler', {}))
        )
        assert same_process(changed, scheduler)


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
def test_a_training_iteration_with_its_teacher(precision):
    init_default_scope('mmdiffdet')
    cfg = config()
    cfg.custom_hooks = [
        dict(type='SamplerDistillHook', teacher=dict(checkpoint='x'), teacher_steps=2, topk=4)
    ]
    cfg = Config(cfg._cfg_dict)
    model = bench.build_pair(cfg, baseline=False)['ours']
    before = model.bbox_head.time_mlp[1].weight.clone()
    cfg.optim_wrapper.type = 'PartAmpOptimWrapper'  # is not what is timed
    kinds = []
    model.backbone.conv1.register_forward_hook(lambda *args: kinds.append(args[2].dtype))
    losses = bench.training_way(cfg, model, bench.demo_batch((64, 96), 2, 3), precision)()
    assert set(kinds) == {PRECISIONS[precision] or torch.float32}
    assert losses['loss_sampler_distill_box'] > 0
    assert not torch.equal(before, model.bbox_head.time_mlp[1].weight)


@pytest.mark.skipif(torch.bfloat16 not in products.PRECISIONS, reason='oneDNN without bfloat16')
def test_weights_are_cast_once_and_given_back():
    """Testing in bfloat16 leaves float32 weights as they were, and computes
    what autocast alone computes."""
    model = build(tiny_config()).eval()
    data = batch()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        plain = model.test_step(data)
    with bench.testing(model, 'bf16'):
        conv = model.bbox_head.head_series[0].inst_interact
        assert {b.dtype for _, b in conv.held} == {torch.bfloat16}
        found = model.test_step(data)
    assert not hasattr(conv, 'held')
    for key, value in model.state_dict().items():
        assert value.dtype == before[key].dtype
        assert torch.equal(value, before[key])
    for a, b in zip(plain, found):
        assert torch.equal(a.pred_instances.bboxes, b.pred_instances.bboxes)


def test_matrix_peak():
    """That of a product that is timed here, within a factor of 20."""
    a = torch.rand(256, 256)
    found = bench.matrix_peak(torch.float32, torch.device('cpu'), 256)
    seconds = min(bench.interleave({'': lambda: a @ a}, 9)[''])
    assert 1 / 20 < found / (2 * 256**3 / seconds) < 20


@pytest.fixture
def tool(tmp_path, monkeypatch):
    # at its full size it takes longer than all the rest
    monkeypatch.setattr(bench, 'matrix_peak', partial(bench.matrix_peak, size=256))
    cfg = runner_config(write_coco(tmp_path / 'data'), tmp_path / 'work')
    cfg.dump(str(tmp_path / 'tiny.py'))

    def run(*args):
        monkeypatch.setattr(
            sys, 'argv', ['benchmark.py', str(tmp_path / 'tiny.py'), *map(str, args)]
        )
        runpy.run_path(str(ROOT / 'tools/analysis_tools/benchmark.py'), run_name='__main__')

    return run


def test_the_table(tool, tmp_path, capsys):
    tool(
        '--baseline',
        '--size',
        64,
        96,
        '--batch-sizes',
        1,
        2,
        '--steps',
        2,
        '--eval-seeds',
        0,
        3,
        '--repeats',
        1,
        '--json',
        tmp_path / 'b.json',
    )
    printed = capsys.readouterr().out
    stages = (
        '- RoI features',
        '- attention',
        '- dynamic convolution',
        '- feed-forward',
        '- outputs',
        '- rest',
    )
    for row in (
        'decode',
        'backbone and neck',
        'head, one step',
        *stages,
        'post-processing',
        'image, 2 step(s)',
        '2 eval seeds, 1 step',
    ):
        assert f'| {row}' in printed
    assert '| n/a' in printed  # no spread of one call
    found = json.loads((tmp_path / 'b.json').read_text())['measurements']
    assert len(found) == 1 + 2 * (5 + 6) * 2
    assert all(m['seconds'] > 0 and m['ratio'] > 0 for m in found[1:])
    heads = [m for m in found if m['work'].startswith('head')]
    assert heads[2]['flops'] == pytest.approx(2 * heads[0]['flops'], rel=0.1)
    share = heads[0]['flops'] / heads[0]['seconds'] / heads[0]['matrix_peak']
    assert heads[0]['peak_share'] == pytest.approx(share)

    tool('--training', '--size', 64, 96, '--batch-sizes', 2, '--repeats', 1)
    assert '| training iteration' in capsys.readouterr().out


def test_options_reach_the_model_and_the_heading(tool, tmp_path, capsys):
    common = (
        '--size',
        64,
        96,
        '--batch-sizes',
        1,
        '--steps',
        1,
        '--eval-seeds',
        0,
        '--precisions',
        'fp32',
        '--repeats',
        1,
        '--json',
        tmp_path / 'b.json',
    )
    flops = []
    for number in (4, 8):
        option = f'model.test_cfg.num_proposals={number}'
        tool(*common, '--cfg-options', option)
        assert f'64x96, {option}\n' in capsys.readouterr().out
        flops += [
            m['flops']
            for m in json.loads((tmp_path / 'b.json').read_text())['measurements']
            if m['work'].startswith('head')
        ]
    assert 1.5 * flops[0] < flops[1]
    for option, message in (
        ('test_cfg.precision=bf16', 'use --precisions'),
        ('model.sampler.sampling_timesteps=4', 'use --steps'),
    ):
        with pytest.raises(SystemExit):
            tool('--cfg-options', option)
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit, match='stage_per_step'):
        tool('--cfg-options', 'model.sampler.stage_per_step=[1]')


def test_bad_arguments(tool):
    with pytest.raises(SystemExit):
        tool('--repeats', 0)
    with pytest.raises(SystemExit):
        tool('--curves', 'x.svg')


def test_curves(tool, tmp_path, capsys):
    model = build(tiny_config())
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'x.pth')
    tool(
        tmp_path / 'x.pth',
        '--curves',
        tmp_path / 'c.svg',
        '--steps',
        1,
        2,
        '--eval-seeds',
        0,
        1,
        '--precisions',
        'fp32',
        '--json',
        tmp_path / 'c.json',
    )
    assert '| stages | 2 steps | 1 |' in capsys.readouterr().out
    points = json.loads((tmp_path / 'c.json').read_text())['points']
    stages = model.bbox_head.head_series
    assert len(points) == 6 * 2 + 5 + len(stages)
    assert all(len(p['AP_by_seed']) == 2 for p in points)
    assert '<svg' in (tmp_path / 'c.svg').read_text()


def test_fewer_stages_are_the_first_of_the_cascade():
    model = build(tiny_config()).eval()
    table = model.bbox_head.tabulate(model.extract_feat(torch.rand(1, 3, 64, 96)))
    boxes = torch.tensor([[[4.0, 4, 40, 40], [10, 8, 90, 60]]])
    t = torch.tensor([500])
    with torch.no_grad():
        every = model.bbox_head(table, boxes, t)
        one = model.bbox_head(table, boxes, t, all_stages=False, num_stages=1)
    assert torch.equal(one.boxes[0], every.boxes[0])
    assert torch.equal(one.logits[0], every.logits[0])
    for bad in (0, -1, 9):
        with pytest.raises(ValueError, match='stages_per_step'):
            model.bbox_head(table, boxes, t, num_stages=bad)
    cfg = tiny_config()
    cfg.sampler.stages_per_step = [9]
    with pytest.raises(ValueError, match='stages_per_step has 9'):
        build(cfg)


def test_repeated_stages():
    """The cascade's last ones once more, on what they have said."""
    cfg = tiny_config()
    cfg.sampler.update(sampling_timesteps=2, repeated_stages=1)
    model, calls = build(cfg).eval(), []
    stages = model.bbox_head.head_series
    for number, stage in enumerate(stages):
        stage.register_forward_hook(lambda _, args, out, n=number: calls.append((n, args[2], out)))
    with torch.no_grad():
        model.test_variants(batch([(64, 96)], [1]), [model.default_variant])
    assert [n for n, *_ in calls] == [0, 1, 1] * 2
    (_, _, last), (_, boxes, _) = calls[1:3]
    assert torch.equal(boxes, last.boxes.detach())
    for bad in (-1, 1.5, True):
        cfg.sampler.repeated_stages = bad
        with pytest.raises(ValueError, match='repeated_stages'):
            build(cfg)
    cfg.sampler.update(repeated_stages=2, stages_per_step=[2, 1])
    with pytest.raises(ValueError, match='a step has 1 stages'):
        build(cfg)


def test_stages_per_step(tmp_path):
    """The first step runs what it is told, the later ones the last number."""
    model = build(tiny_config()).eval()
    cfg = ConfigDict(model=tiny_config())
    calls = []
    for number, stage in enumerate(model.bbox_head.head_series):
        stage.register_forward_hook(lambda *_, n=number: calls.append(n))
    cfg.model.sampler.stages_per_step = [2, 1]
    [variant] = bench.sampling_variants(cfg, 3)
    with torch.no_grad():
        model.test_variants(batch([(64, 96)], [1]), [variant])
    assert calls == [0, 1, 0, 0]
    for bad in ([], [0], [2, -1], 2, [1.5]):
        cfg.model.sampler.stages_per_step = bad
        with pytest.raises(ValueError, match='stages_per_step'):
            bench.sampling_variants(cfg, 1)


def test_number_of_proposals_as_a_variant(tmp_path):
    """Fewer proposals are another test: other detections, another key."""
    cfg = runner_config(write_coco(tmp_path / 'data'), tmp_path / 'work')
    model = build(cfg.model)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'x.pth')
    cfg.load_from = str(tmp_path / 'x.pth')
    cfg.test_cfg.variants = [{}, dict(num_proposals=5)]
    cfg.custom_hooks.append(dict(type='LedgerHook', path=str(tmp_path / 'l.tsv')))
    runner = Runner.from_cfg(cfg)
    runner.test()
    rows = Ledger(tmp_path / 'l.tsv').read()
    assert len({row.config_sha256 for row in rows}) == 2
    found = runner.test_loop.model.test_variants(
        batch([(64, 96)], [1]), [case.variant for case in runner.test_loop.cases]
    )
    assert len(found[1][0].pred_instances) <= 5 < len(found[0][0].pred_instances)
