"""Time a detector, against the reference's way of computing the same numbers.

    python tools/analysis_tools/benchmark.py CONFIG [CHECKPOINT] [--reference]
        [--size 800 1216] [--batch-sizes 1 4] [--steps 1 4 20]
        [--eval-seeds 5] [--precisions fp32 bf16] [--repeats 3] [--json FILE]
    python tools/analysis_tools/benchmark.py CONFIG --training [--reference]
        [--size 240 320] [--batch-sizes 8]
    python tools/analysis_tools/benchmark.py CONFIG CHECKPOINT
        --curves FILE.svg [--steps 1 2 4 8] [--eval-seeds 2]

The reference has MMDetection's RoI extractor, float32, one eval seed a pass,
and the same weights; the ways take turns, and medians are shown. --training
times an iteration, with its teacher if the config distils. --curves tests a
trained model on the config's test data with several solvers, numbers of
proposals and stages, and draws AP against milliseconds.
"""
import argparse
import json
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from mmdiffdet import benchmark as bench
from mmdiffdet.engine.launch import read_config
from mmdiffdet.engine.multi_seed_test_loop import PRECISIONS
from mmdiffdet.engine.stopwatch import device_name
from mmdiffdet.utils import atomic_path


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        'checkpoint', nargs='?', help='by default weights are random')
    parser.add_argument(
        '--reference', action='store_true', help='time the reference too')
    parser.add_argument(
        '--size', type=int, nargs=2, default=(800, 1216),
        metavar=('HEIGHT', 'WIDTH'), help='of the images')
    parser.add_argument('--batch-sizes', type=int, nargs='+')
    parser.add_argument('--steps', type=int, nargs='+')
    parser.add_argument(
        '--eval-seeds', type=int, default=5, help='how many in one pass')
    parser.add_argument(
        '--precisions', nargs='+', choices=list(PRECISIONS),
        default=['fp32', 'bf16'])
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--json', type=Path, help='write all numbers here')
    parser.add_argument('--training', action='store_true')
    parser.add_argument('--curves', type=Path, metavar='FILE.svg')
    args = parser.parse_args()
    if args.curves and not args.checkpoint:
        parser.error('--curves needs a trained CHECKPOINT')
    return args


class Inference:
    """Times what happens to a batch of images.

    Args:
        cfg (Config): Of the detector.
        args (argparse.Namespace): Of the command line.
    """

    def __init__(self, cfg: Config, args: argparse.Namespace) -> None:
        self.cfg = cfg
        self.args = args
        self.pair = bench.build_pair(cfg, args.checkpoint, args.reference)
        self.ours = self.pair['ours']
        # (name of the way, its model, precision)
        self.ways = [(p, self.ours, p) for p in args.precisions]
        if args.reference:
            self.ways.append(('reference', self.pair['reference'], 'fp32'))
        self.states = {name: partial(bench.testing, model, precision)
                       for name, model, precision in self.ways}
        device = next(self.ours.parameters()).device
        self.peaks = {
            p: bench.matrix_peak(PRECISIONS[p] or torch.float32, device)
            for p in args.precisions}
        self.measurements: List[bench.Measurement] = []
        self.head_seconds: Dict[str, Dict[str, float]] = {}

    def run(self) -> None:
        """Measure everything."""
        with bench.decoding_way(self.cfg, self.args.size) as decode:
            seconds = bench.interleave({'': decode}, self.args.repeats)['']
        self.measurements.append(
            bench.Measurement('decode', 1, 'uint8', seconds))
        for batch_size in self.args.batch_sizes or (1, 4):
            self.run_batch(batch_size)

    def run_batch(self, images: int) -> None:
        """Measure a number of images at once."""
        data = bench.random_batch(
            tuple(self.args.size), images, self.ours.bbox_head.num_classes)
        models = {id(m): m for m in self.pair.values()}
        parts = {}
        for key, model in models.items():
            with bench.testing(model, 'fp32'):
                parts[key] = bench.inference_parts(model, data)
        for part in parts[id(self.ours)]:
            self.measure(part, images, lambda m, part=part: parts[id(m)][part],
                         flops=part != 'post-processing')
        seeds = self.args.eval_seeds
        for work, variants in [
            (f'image, {steps} step(s)',
             bench.sampling_variants(self.cfg, steps))
                for steps in self.args.steps or (1, 4, 20)
        ] + [(f'{seeds} eval seeds, 1 step',
              bench.sampling_variants(self.cfg, 1, seeds))]:
            self.measure(
                work, images, lambda m, variants=variants: bench.image_way(
                    m, data, variants, one_pass=m is self.ours))
        for name, model, _ in self.ways:
            with self.states[name]():
                self.head_seconds[f'{name}, {images} image(s)'] = \
                    bench.median_parts(
                        bench.head_parts(model), 'head, one step',
                        parts[id(model)]['head, one step'],
                        self.args.repeats)

    def measure(self, work: str, images: int, make: Callable[[Any], bench.Way],
                flops: bool = False) -> None:
        """Time ``make(model)``, and find its memory and operations."""
        ways = {name: make(model) for name, model, _ in self.ways}
        seconds = bench.interleave(ways, self.args.repeats, self.states)
        peak = {}
        for name, way in ways.items():
            with self.states[name]():
                peak[name] = bench.peak_memory(way)
        for p in self.args.precisions:
            count = None
            if flops:
                with self.states[p]():
                    count = bench.count_flops(ways[p])
            self.measurements.append(
                bench.Measurement(
                    work, images, p, seconds[p], seconds.get('reference'),
                    peak[p], peak.get('reference'), count,
                    count and count / seconds[p] / self.peaks[p]))
            print(f'{work}, {images} image(s), {p}: '
                  f'{1000 * seconds[p] / images:.1f} ms/image',
                  file=sys.stderr)


def training(cfg: Config,
             args: argparse.Namespace) -> List[bench.Measurement]:
    """Time an iteration, each way with a model of its own."""
    found = []
    for batch_size in args.batch_sizes or (cfg.train_dataloader.batch_size, ):
        ways = {}
        for p in args.precisions:
            model = bench.build_pair(cfg, args.checkpoint, False)['ours']
            data = bench.random_batch(
                tuple(args.size), batch_size, model.bbox_head.num_classes)
            ways[p] = bench.training_way(cfg, model, data, p)
        if args.reference:
            model = bench.build_pair(cfg, args.checkpoint)['reference']
            ways['reference'] = bench.training_way(
                cfg, model, data, 'fp32', share_backbone=False)
        seconds = bench.interleave(ways, args.repeats)
        peak = {name: bench.peak_memory(way) for name, way in ways.items()}
        work = 'training iteration' + (' with teacher' if model.distiller else
                                       '')
        found += [
            bench.Measurement(work, batch_size, p, seconds[p],
                              seconds.get('reference'), peak[p],
                              peak.get('reference')) for p in args.precisions
        ]
    return found


def curves(cfg: Config, args: argparse.Namespace) -> list:
    """Test the model in many ways and draw the picture."""
    head = cfg.model.bbox_head
    variants = bench.curve_variants(args.steps or (1, 2, 4, 8),
                                    cfg.model.test_cfg.num_proposals,
                                    head.num_stages)
    cfg.load_from = args.checkpoint
    cfg.model.backbone.init_cfg = None
    cfg.custom_hooks = []
    cfg.test_cfg.update(
        type='MultiSeedTestLoop',
        eval_seeds=list(range(args.eval_seeds)),
        variants=list(variants.values()),
        precision=args.precisions[-1])
    runner = Runner.from_cfg(cfg)
    runner.test()
    points = bench.points_of(runner.test_loop, list(variants))
    bench.plot_curves(points, args.curves)
    print('| | | | ms/image | AP | by eval seed |\n|---|---|---|---|---|---|')
    for p in points:
        print(f'| {p.panel} | {p.line} | {p.label} | {1000 * p.seconds:.1f} | '
              f'{p.AP:.2f} | {", ".join(f"{x:.2f}" for x in p.AP_by_seed)} |')
    return [p._asdict() for p in points]


def main() -> None:
    args = parse_args()
    cfg = read_config(args.config)
    init_default_scope('mmdiffdet')
    # initialisation would tell of every weight
    MMLogger.get_instance('mmengine', log_level='WARNING')
    found: List[bench.Measurement] = []
    result: Dict[str, Any] = {}
    try:
        if args.curves:
            result['points'] = curves(cfg, args)
        elif args.training:
            found = training(cfg, args)
        else:
            times = Inference(cfg, args)
            times.run()
            found = times.measurements
            result['head_seconds'] = times.head_seconds
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f'benchmark: {error}')
    device = device_name(torch.device(
        'cuda' if torch.cuda.is_available() else 'cpu'))
    result.update(
        config=args.config, device=device, torch=torch.__version__,
        size=list(args.size), measurements=[asdict(m) for m in found])
    if found:
        print(f'{device}, PyTorch {torch.__version__}, '
              f'{args.size[0]}x{args.size[1]}\n\n{bench.render(found)}')
    for name, parts in result.get('head_seconds', {}).items():
        print(f'\n{name}: ' + ', '.join(
            f'{part} {1000 * seconds:.1f} ms'
            for part, seconds in parts.items()))
    if args.json:
        with atomic_path(args.json) as path:
            path.write_text(json.dumps(result, indent=2) + '\n')


if __name__ == '__main__':
    main()
