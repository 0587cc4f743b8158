"""What tools/analysis_tools/benchmark.py does, once its arguments are known."""

import argparse
import json
import sys
from functools import partial
from typing import Any, Dict, List

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from .. import benchmark as bench
from ..config.file import read_config
from ..device import use_device_options, uses_tf32
from ..engine.compile_hook import use_compile
from ..engine.precision import PRECISIONS
from ..engine.stopwatch import device_name
from ..ops_finder import compiled
from ..utils import atomic_path


def changed(args: argparse.Namespace) -> str:
    """What the command line changes of the config, for a heading."""
    return ''.join(f', {k}={v}' for k, v in (args.cfg_options or {}).items())


def peak(precision: str, args: argparse.Namespace, device: torch.device) -> float:
    """Operations a second of products, as ``--peak-tflops`` says or measured.

    Args:
        precision (str): One of ``PRECISIONS``; the option is for 16 bits.
        args (argparse.Namespace): Of the command line.
        device (torch.device): Where to measure.
    """
    if args.peak_tflops and precision != 'fp32':
        return args.peak_tflops * 1e12
    return bench.matrix_peak(PRECISIONS[precision] or torch.float32, device)


class Inference:
    """Times what happens to a batch of images.

    Args:
        cfg (Config): Of the detector.
        args (argparse.Namespace): Of the command line.
    """

    def __init__(self, cfg: Config, args: argparse.Namespace) -> None:
        self.cfg = cfg
        self.args = args
        self.pair = bench.build_pair(cfg, args.checkpoint, args.baseline)
        self.ours = self.pair['ours']
        # (name of the way, its model, precision)
        self.ways = [(p, self.ours, p) for p in args.precisions]
        if args.baseline:
            self.ways.append(('baseline', self.pair['baseline'], 'fp32'))
        self.states = {
            name: partial(bench.baseline_testing, model)
            if name == 'baseline'
            else partial(bench.testing, model, precision)
            for name, model, precision in self.ways
        }
        device = next(self.ours.parameters()).device
        self.peaks = {p: peak(p, args, device) for p in args.precisions}
        self.measurements: List[bench.Measurement] = []

    def run(self) -> None:
        """Measure everything."""
        with bench.decoding_way(self.cfg, self.args.size) as decode:
            times = bench.interleave({'': decode}, self.args.repeats)['']
        self.measurements.append(bench.Measurement('decode (synthetic)', 1, 'uint8', times))
        usual = (1, 4, 16) if torch.cuda.is_available() else (1, 4)
        for batch_size in self.args.batch_sizes or usual:
            self.run_batch(batch_size)

    def run_batch(self, images: int) -> None:
        """Measure a number of images at once."""
        data = bench.demo_batch(self.args.size, images, self.ours.bbox_head.num_classes)
        data = bench.pinned(data)
        parts = {}
        for name, model, _ in self.ways:
            with self.states[name]():
                parts[name] = bench.inference_parts(model, data)
        for part in parts['baseline' if self.args.baseline else self.args.precisions[0]]:
            ways = {name: found[part] for name, found in parts.items()}
            self.measure(part, images, ways, flops=part != 'post-processing')
            if part.startswith('head'):
                self.measure_stages(images, ways)
        del parts
        seeds = self.args.eval_seeds
        for work, variants in [
            (f'image, {steps} step(s)', bench.sampling_variants(self.cfg, steps))
            for steps in self.args.steps or (1, 4, 20)
        ] + [(f'{len(seeds)} eval seeds, 1 step', bench.sampling_variants(self.cfg, 1, seeds))]:
            self.measure(
                work,
                images,
                {
                    name: bench.image_way(model, data, variants, one_pass=model is self.ours)
                    for name, model, _ in self.ways
                },
            )

    def measure(
        self, work: str, images: int, ways: Dict[str, bench.Way], flops: bool = True
    ) -> None:
        """Time calls by way, and find their memory and operations."""
        times = bench.interleave(ways, self.args.repeats, self.states)
        memory = {n: bench.peak_memory(way, self.states[n]) for n, way in ways.items()}
        for p in self.args.precisions:
            count = None
            if flops:
                with self.states[p]():
                    count = bench.count_flops(ways[p])
            self.measurements.append(
                bench.Measurement(
                    work,
                    images,
                    p,
                    times[p],
                    times.get('baseline'),
                    memory[p],
                    memory.get('baseline'),
                    count,
                    self.peaks[p],
                )
            )
            print(
                f'{work}, {images} image(s), {p}: '
                f'{1000 * self.measurements[-1].seconds / images:.1f} '
                'ms/image',
                file=sys.stderr,
            )

    def measure_stages(self, images: int, ways: Dict[str, bench.Way]) -> None:
        """Time the parts of all stages within a step of the head."""
        parts = {name: bench.head_parts(model) for name, model, _ in self.ways}
        found = bench.interleave_parts(parts, ways, self.args.repeats, self.states)
        for part in found[self.args.precisions[0]]:
            for p in self.args.precisions:
                self.measurements.append(
                    bench.Measurement(
                        f'- {part}',
                        images,
                        p,
                        found[p][part],
                        found['baseline'][part] if self.args.baseline else None,
                    )
                )


def training(cfg: Config, args: argparse.Namespace) -> List[bench.Measurement]:
    """Time an iteration, each way with a model of its own."""
    found = []
    for batch_size in args.batch_sizes or (cfg.train_dataloader.batch_size,):
        ways = {}
        for p in args.precisions:
            model = bench.build_pair(cfg, args.checkpoint, False)['ours']
            data = bench.demo_batch(args.size, batch_size, model.bbox_head.num_classes)
            data = bench.pinned(data)
            ways[p] = bench.training_way(cfg, model, data, p)
        if args.baseline:
            model = bench.build_pair(cfg, args.checkpoint)['baseline']
            ways['baseline'] = bench.training_way(cfg, model, data, 'fp32', baseline=True)
        device = next(model.parameters()).device
        times = bench.interleave(ways, args.repeats)
        memory = {name: bench.peak_memory(way) for name, way in ways.items()}
        work = 'training iteration' + (' with teacher' if model.distiller else '')
        found += [
            bench.Measurement(
                work,
                batch_size,
                p,
                times[p],
                times.get('baseline'),
                memory[p],
                memory.get('baseline'),
                bench.count_flops(ways[p]),
                peak(p, args, device),
            )
            for p in args.precisions
        ]
    return found


def curves(cfg: Config, args: argparse.Namespace) -> Dict[str, Any]:
    """Test the model in many ways and draw the picture."""
    bench.check_detector(cfg)
    if args.precisions:
        cfg.test_cfg.precision = args.precisions[0]
    model = bench.build_pair(cfg, args.checkpoint, False)['ours']
    variants = bench.curve_variants(
        args.steps or (1, 2, 4, 8),
        model.test_cfg['num_proposals'],
        len(model.bbox_head.head_series),
        model.sampler.scheduler,
    )
    cfg.load_from = args.checkpoint
    cfg.model.backbone.init_cfg = None
    cfg.custom_hooks = []
    use_compile(cfg)
    cfg.test_cfg.update(
        type='MultiSeedTestLoop', eval_seeds=args.eval_seeds, variants=list(variants.values())
    )
    runner = Runner.from_cfg(cfg)
    runner.test()
    points = bench.points_of(runner.test_loop, list(variants))
    precision = runner.test_loop.precision
    print(
        f'{args.checkpoint}, {precision}{changed(args)}\n\n'
        '| study | of | value | ms/image | AP | by eval seed |\n'
        '|---|---|---|---|---|---|'
    )
    for p in points:
        print(
            f'| {p.panel} | {p.line} | {p.label} | {1000 * p.seconds:.1f} | '
            f'{p.AP:.2f} | {", ".join(f"{x:.2f}" for x in p.AP_by_seed)} |'
        )
    bench.plot_curves(points, args.curves, precision)
    print(f'drawn: {args.curves}')
    return dict(precision=precision, points=[p._asdict() for p in points])


def run(args: argparse.Namespace) -> None:
    """Measure what the command line asks for, print it and write it.

    Args:
        args (argparse.Namespace): Of ``tools/analysis_tools/benchmark.py``.

    Raises:
        SystemExit: If the config or the checkpoint cannot be used, or a
            precision needs a GPU that is not there.
    """
    if args.device == 'cuda' and not torch.cuda.is_available():
        sys.exit(
            'benchmark: --device cuda: PyTorch sees no GPU (a build without CUDA, no driver, or '
            'CUDA_VISIBLE_DEVICES is empty); use --device cpu'
        )
    if 'fp16' in (args.precisions or ()) and not torch.cuda.is_available():
        sys.exit('benchmark: --precisions fp16 needs a GPU; use bf16')
    init_default_scope('mmdiffdet')
    # initialisation would tell of every weight
    MMLogger.get_current_instance().setLevel('WARNING')
    found: List[bench.Measurement] = []
    device = device_name(torch.device('cuda' if torch.cuda.is_available() else 'cpu'))
    result: Dict[str, Any] = dict(
        config=args.config,
        options=args.cfg_options,
        checkpoint=args.checkpoint,
        device=device,
        torch=torch.__version__,
    )
    if args.baseline and not compiled():
        print(
            'note: MMCV was installed without compiled operators, so the baseline takes RoI '
            'features from our gather: its times are too good. OPERATORS=1 make venv compiles them',
            file=sys.stderr,
        )
    try:
        cfg = read_config(args.config, options=args.cfg_options)
        use_device_options(cfg)
        if args.curves:
            result.update(curves(cfg, args))
        elif args.training:
            found = training(cfg, args)
        else:
            times = Inference(cfg, args)
            times.run()
            found = times.measurements
    except (FileNotFoundError, FloatingPointError, ValueError) as error:
        sys.exit(f'benchmark: {error}')
    if found:
        result.update(
            size=list(args.size), repeats=args.repeats, measurements=[m.record() for m in found]
        )
        print(
            f'{device}, PyTorch {torch.__version__}{", TF32" if uses_tf32() else ""}, '
            f'{args.size[0]}x{args.size[1]}{changed(args)}\n\n'
            f'{bench.render(found)}'
        )
    if args.json:
        with atomic_path(args.json) as path:
            path.write_text(json.dumps(result, indent=2) + '\n')
