"""The benchmark's table, curves and calls, from numbers and models that are given."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from tiny import ROOT

from mmdiffdet import benchmark as bench
from mmdiffdet.benchmark import command, curves, measure
from mmdiffdet.benchmark.curves import Point, curve_variants, plot_curves, points_of
from mmdiffdet.benchmark.report import Measurement, render
from mmdiffdet.diffusion.box_schedulers import build_box_scheduler


def cells(table):
    """Rows by the name of their columns."""
    head, line, *rows = ([cell.strip() for cell in row.split('|')[1:-1]] for row in table)
    assert all(set(cell) == {'-'} for cell in line)
    return [dict(zip(head, row)) for row in rows]


def test_a_row_by_hand():
    """Two images a call; the median of three calls is half a second."""
    times, baseline = [0.7, 0.4, 0.5], [1.0, 1.2, 3.0]
    found = Measurement('head', 2, 'bf16', times, baseline, 3 * 2**20, 5 * 2**20, 4 * 10**9, 32e9)
    assert (found.seconds, found.baseline_seconds) == (0.5, 1.2)
    assert found.ratio == pytest.approx(2.4) and found.peak_share == pytest.approx(0.25)
    record = found.record()
    assert record['times'] == times and record['peak_share'] == pytest.approx(0.25)
    [row] = cells(render([found]).splitlines())
    assert row == {
        'work': 'head',
        'images': '2',
        'precision': 'bf16',
        'ms/image': '250.0',
        'images/s': '4.0',
        'spread': '60 %',
        'baseline': '600.0',
        'ratio': '2.40x',
        'GFLOP/image': '2',
        'of matrix peak': '25 %',
        'MiB': '3',
        'baseline MiB': '5',
    }


def test_what_was_not_measured_has_no_column():
    bare = Measurement('decode', 1, 'uint8', [0.001])
    assert (bare.baseline_seconds, bare.ratio, bare.peak_share) == (None, None, None)
    assert Measurement('x', 1, 'fp32', [1.0], flops=5).peak_share is None
    assert Measurement('x', 1, 'fp32', [1.0], matrix_peak=5.0).peak_share is None
    table = render([bare, Measurement('head', 1, 'fp32', [0.1, 0.2], flops=10**9)])
    lines = table.splitlines()
    assert len(set(map(len, lines))) == 1  # columns are as wide as their cells
    decode, head = cells(lines)
    assert list(head) == ['work', 'images', 'precision', 'ms/image', 'images/s'] + [
        'spread',
        'GFLOP/image',
    ]
    assert decode['spread'] == 'n/a' and decode['GFLOP/image'] == ''
    assert head['spread'] == '67 %' and decode['ms/image'] == '1.0'


def test_memory_is_told_in_bytes(monkeypatch, tmp_path):
    status = tmp_path / 'status'
    status.write_text('VmHWM:\t      70 kB\nVmRSS:\t    50 kB\n')
    monkeypatch.setattr(measure, 'Path', lambda name: status)
    assert measure._resident('VmRSS') == 50 * 1024
    resident = iter([50, 70, 70, 50])
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(measure, '_resident', lambda name: next(resident) * 1024)
    assert [measure.peak_memory(lambda: None) for _ in range(2)] == [20 * 1024, 0]


def test_the_peak_is_of_all_operations_of_a_product(monkeypatch):
    """2 n^3, by the best of the times."""
    rounds = []

    def interleave(ways, repeats):
        rounds.append(repeats)
        ways['']()
        return {'': [0.5, 0.25, 1.0]}

    monkeypatch.setattr(measure, 'interleave', interleave)
    assert measure.matrix_peak(torch.float32, torch.device('cpu'), 8) == 2 * 8**3 / 0.25
    assert rounds == [3]


def test_a_peak_that_is_given_is_for_16_bits(monkeypatch):
    monkeypatch.setattr(bench, 'matrix_peak', lambda dtype, device: (dtype, device))
    args = SimpleNamespace(peak_tflops=2.0)
    assert command.peak('bf16', args, 'cpu') == 2e12
    assert command.peak('fp32', args, 'cpu') == (torch.float32, 'cpu')
    args.peak_tflops = None
    assert command.peak('bf16', args, 'cpu') == (torch.bfloat16, 'cpu')
    assert command.changed(SimpleNamespace(cfg_options=None)) == ''
    assert command.changed(SimpleNamespace(cfg_options=dict(a=1, b=2))) == ', a=1, b=2'


@pytest.mark.parametrize('name', ['DDIMScheduler', 'FlowMatchEulerDiscreteScheduler'])
def test_variants_of_curves(name):
    variants = curve_variants([1, 4], 20, 3, build_box_scheduler(dict(type=name)))
    by_panel = {}
    for (panel, line, label), change in variants.items():
        by_panel.setdefault(panel, {})[line, label] = change
    proposals = {label: change for (_, label), change in by_panel['proposals'].items()}
    assert proposals == {
        str(n): dict(sampling_timesteps=1, num_proposals=n) for n in (5, 10, 20, 40, 80)
    }
    assert by_panel['stages'] == {
        ('4 steps', str(n)): dict(sampling_timesteps=4, stages_per_step=[3, n]) for n in (1, 2, 3)
    }
    solvers = by_panel['solver']
    assert {label for _, label in solvers} == {'1', '4'}
    for (line, label), change in solvers.items():
        assert change['sampling_timesteps'] == int(label)
        assert ('renewal' in change) == ('no renewal' in line or line in ('DPM-Solver', 'UniPC'))
        if line.startswith('DDIM'):
            assert change['eta'] == (1.0 if 'eta 1' in line else 0.0)
    if 'Flow' in name:
        assert solvers['Euler, shift 3', '1']['scheduler'] == dict(shift=3.0)
        anew = solvers['Euler, noise anew in each step', '4']['scheduler']
        assert anew == dict(stochastic_sampling=True)


def test_points_are_means_of_their_eval_seeds():
    """Two variants with two seeds each; features are computed once for all."""
    cases = [SimpleNamespace(name=f'c{i}') for i in range(4)]
    metrics = {f'c{i}': {'coco/bbox_mAP': ap} for i, ap in enumerate((0.1, 0.2, 0.4, 0.6))}
    seconds = {'features': 0.5, 0: 0.01, 1: 0.03, 2: 0.2, 3: 0.4}
    loop = SimpleNamespace(
        cases=cases, metrics=metrics, stopwatch=SimpleNamespace(per_image=seconds.get)
    )
    first, second = points_of(loop, [('solver', 'a', '1'), ('stages', 'b', '2')])
    assert first[:3] == ('solver', 'a', '1') and second[:3] == ('stages', 'b', '2')
    assert first.AP_by_seed == pytest.approx([10, 20]) and first.AP == pytest.approx(15)
    assert second.AP_by_seed == pytest.approx([40, 60]) and second.AP == pytest.approx(50)
    assert (first.seconds, second.seconds) == pytest.approx((0.52, 0.8))


def test_curves_are_drawn_in_milliseconds(monkeypatch, tmp_path):
    figures = []

    class Figure(curves.Figure):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            figures.append(self)

    monkeypatch.setattr(curves, 'Figure', Figure)
    points = [
        Point('solver', 'a', '1', 0.1, 30.0, [30.0]),
        Point('solver', 'b', '1', 0.2, 20.0, [20.0]),
        Point('solver', 'a', '4', 0.4, 40.0, [40.0]),
        Point('stages', 'a', '2', 0.3, 35.0, [35.0]),
    ]
    plot_curves(points, tmp_path / 'x.svg', 'bf16')
    left, right = figures[0].axes
    assert left.get_title().startswith('Solver') and right.get_title().startswith('Stages')
    lines = {line.get_label(): line.get_xydata().tolist() for line in left.lines}
    assert lines == dict(a=[[100, 30], [400, 40]], b=[[200, 20]])
    assert [(t.get_text().strip(), t.xy) for t in right.texts] == [('2', (300, 35))]
    assert right.get_xlabel() == 'ms an image, bf16'
    plot_curves(points[:1], tmp_path / 'x.svg', 'bf16')
    assert len(figures[1].axes) == 1


def test_the_file_that_is_decoded_has_the_size_that_was_asked_for():
    """And is resized as the config's test resizes; nothing is packed."""
    cfg = Config.fromfile(ROOT / 'configs/demo/demo.py')
    with bench.decoding_way(cfg, (96, 160)) as decode:
        found = decode()
    assert found['ori_shape'] == (96, 160)
    height, width = found['img'].shape[:2]
    assert width / height == pytest.approx(160 / 96, rel=0.02)
    assert found['img'].std() > 10  # no blank image, which would be decoded faster


class Detector:
    """Says how it was called."""

    def __init__(self):
        self.test_cfg = dict(num_proposals=9, images_per_pass=1)
        self.calls = []

    def parameters(self):
        yield torch.zeros(1)

    def modules(self):
        return []

    def eval(self):
        self.calls.append('eval')

    def __call__(self, image, mode):
        self.calls.append((image.shape[:2], mode, self.test_cfg['num_proposals']))

    def test_variants(self, data, variants):
        self.calls.append((self.test_cfg['images_per_pass'], variants))
        if variants == ['bad']:
            raise RuntimeError


def test_a_model_is_warmed_up_by_one_proposal():
    model = Detector()
    with bench.testing(model, 'fp32'):
        assert model.calls == ['eval', ((1, 3), 'tensor', 1)]
        assert model.test_cfg['num_proposals'] == 9 and not torch.is_grad_enabled()
    assert torch.is_grad_enabled()


def test_a_batch_goes_through_at_once_for_each_group_of_variants():
    model, data = Detector(), dict(inputs=[0, 1, 2])
    for one_pass, groups in ((True, [['a', 'b']]), (False, [['a'], ['b']])):
        model.calls.clear()
        bench.image_way(model, data, ['a', 'b'], one_pass)()
        assert model.calls == [(3, group) for group in groups]
        assert model.test_cfg['images_per_pass'] == 1
    with pytest.raises(RuntimeError):
        bench.image_way(model, data, ['bad'], True)()
    assert model.test_cfg['images_per_pass'] == 1


def test_a_batch_of_so_many_objects():
    data = bench.demo_batch((64, 96), 3, 5)
    assert [image.shape for image in data['inputs']] == [(3, 64, 96)] * 3
    assert [len(sample.gt_instances) for sample in data['data_samples']] == [8] * 3


def test_seeds_and_steps_of_variants():
    cfg = Config.fromfile(ROOT / 'configs/demo/demo.py')
    variants = bench.sampling_variants(cfg, 4, (3, 5))
    assert [v.eval_seed for v in variants] == [3, 5]
    assert {v.sampler.sampling_timesteps for v in variants} == {4}
    assert [v.eval_seed for v in bench.sampling_variants(cfg, 1)] == [0]


@pytest.mark.parametrize(
    'gpu, given, expected', [(False, None, [1, 4]), (True, None, [1, 4, 16]), (True, [2], [2])]
)
def test_sizes_of_batches_that_are_timed(monkeypatch, gpu, given, expected):
    times = command.Inference.__new__(command.Inference)
    times.cfg, times.measurements = None, []
    times.args = SimpleNamespace(size=(64, 96), repeats=2, batch_sizes=given)
    monkeypatch.setattr(bench, 'decoding_way', lambda cfg, size: nullcontext(lambda: size))
    monkeypatch.setattr(
        bench, 'interleave', lambda ways, repeats: {'': [ways['']()[0] / 64] * repeats}
    )
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpu)
    sizes = []
    times.run_batch = sizes.append
    times.run()
    assert sizes == expected
    [decode] = times.measurements
    assert (decode.work, decode.images, decode.times) == ('decode (synthetic)', 1, [1.0, 1.0])


def test_float16_trains_on_gpus_only(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    cfg = Config.fromfile(ROOT / 'configs/demo/demo.py')
    with pytest.raises(ValueError, match='float16 training needs a GPU'):
        bench.training_way(cfg, None, {}, 'fp16')
