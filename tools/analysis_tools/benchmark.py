"""Time a detector, against MMDetection's way of computing the same numbers.

    python tools/analysis_tools/benchmark.py CONFIG [CHECKPOINT] [--baseline]
        [--size 800 1216] [--batch-sizes 1 4] [--steps 1 4 20]
        [--eval-seeds 0 1 2 3 4] [--precisions fp32 bf16] [--repeats 3]
        [--json FILE] [--cfg-options KEY=VALUE ...]
    python tools/analysis_tools/benchmark.py CONFIG --training [--baseline]
        [--size 240 320] [--batch-sizes 8]
    python tools/analysis_tools/benchmark.py CONFIG CHECKPOINT
        --curves FILE.svg [--steps 1 2 4 8] [--eval-seeds 0 1]
        [--precisions bf16]

The baseline has the same weights, in float32, and does what MMDetection's own
DiffusionDet project does: its RoI extractor, the plain model without
mmdiffdet.fast, outputs of all stages, one eval seed a pass, a teacher with
features of its own. The rest of its code is ours. The ways take turns, and
medians are shown. Images are of one size and go through the network at once
(a test takes them one by one, model.test_cfg.images_per_pass).

--training times an iteration, with its teacher if the config distils.
--curves tests a trained model on the config's test data with several solvers,
numbers of proposals and stages, and draws AP against milliseconds.
"""

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any, Dict, List

import torch
from mmengine.config import Config, DictAction
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from mmdiffdet import benchmark as bench
from mmdiffdet.engine.command_line import run_command
from mmdiffdet.engine.config_file import read_config
from mmdiffdet.engine.precision import PRECISIONS
from mmdiffdet.engine.stopwatch import device_name
from mmdiffdet.ops_finder import compiled
from mmdiffdet.utils import atomic_path


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError('must be at least 1')
    return number


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', nargs='?', help='by default weights are random')
    parser.add_argument('--baseline', action='store_true', help="time MMDetection's way too")
    parser.add_argument(
        '--size',
        type=positive,
        nargs=2,
        default=(800, 1216),
        metavar=('HEIGHT', 'WIDTH'),
        help='of the images',
    )
    parser.add_argument('--batch-sizes', type=positive, nargs='+')
    parser.add_argument('--steps', type=positive, nargs='+')
    parser.add_argument(
        '--eval-seeds',
        type=int,
        nargs='+',
        help='that are tested in one pass, 0 to 4; of --curves 0 and 1',
    )
    parser.add_argument(
        '--precisions',
        nargs='+',
        choices=list(PRECISIONS),
        help='fp32 and bf16; of --curves that of the config',
    )
    parser.add_argument('--repeats', type=positive, default=3)
    parser.add_argument('--json', type=Path, help='write all numbers here')
    parser.add_argument('--training', action='store_true')
    parser.add_argument('--curves', type=Path, metavar='FILE.svg')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='override the config, e.g. model.test_cfg.num_proposals=300',
    )
    args = parser.parse_args()
    if args.curves:
        if not args.checkpoint:
            parser.error('--curves needs a trained CHECKPOINT')
        if args.curves.suffix not in ('.svg', '.png', '.pdf'):
            parser.error('--curves must end in .svg, .png or .pdf')
        if args.baseline or args.training or len(args.precisions or ()) > 1:
            parser.error(
                '--curves goes with one of --precisions, and without --baseline and --training'
            )
    elif args.precisions is None:
        args.precisions = ['fp32', 'bf16']
    if args.eval_seeds is None:
        args.eval_seeds = list(range(2 if args.curves else 5))
    for key, instead in (
        ('test_cfg.precision', '--precisions'),
        ('model.sampler.sampling_timesteps', '--steps'),
    ):
        if key in (args.cfg_options or {}):
            parser.error(f'--cfg-options {key}: use {instead}')
    for path in (args.curves, args.json):
        if path is not None and not path.parent.is_dir():
            parser.error(f'folder {path.parent} does not exist')
    if min(args.size) < 64:
        parser.error('--size: at least 64 pixels a side')
    if 'fp16' in (args.precisions or ()) and not torch.cuda.is_available():
        parser.error('--precisions fp16 needs a GPU; use bf16')
    return args


def changed(args: argparse.Namespace) -> str:
    """What the command line changes of the config, for a heading."""
    return ''.join(f', {k}={v}' for k, v in (args.cfg_options or {}).items())


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
        self.peaks = {
            p: bench.matrix_peak(PRECISIONS[p] or torch.float32, device) for p in args.precisions
        }
        self.measurements: List[bench.Measurement] = []

    def run(self) -> None:
        """Measure everything."""
        with bench.decoding_way(self.cfg, self.args.size) as decode:
            times = bench.interleave({'': decode}, self.args.repeats)['']
        self.measurements.append(bench.Measurement('decode (synthetic)', 1, 'uint8', times))
        for batch_size in self.args.batch_sizes or (1, 4):
            self.run_batch(batch_size)

    def run_batch(self, images: int) -> None:
        """Measure a number of images at once."""
        data = bench.demo_batch(self.args.size, images, self.ours.bbox_head.num_classes)
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
        peak = {name: bench.peak_memory(way, self.states[name]) for name, way in ways.items()}
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
                    peak[p],
                    peak.get('baseline'),
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
            ways[p] = bench.training_way(cfg, model, data, p)
        if args.baseline:
            model = bench.build_pair(cfg, args.checkpoint)['baseline']
            ways['baseline'] = bench.training_way(cfg, model, data, 'fp32', baseline=True)
        device = next(model.parameters()).device
        times = bench.interleave(ways, args.repeats)
        peak = {name: bench.peak_memory(way) for name, way in ways.items()}
        work = 'training iteration' + (' with teacher' if model.distiller else '')
        found += [
            bench.Measurement(
                work,
                batch_size,
                p,
                times[p],
                times.get('baseline'),
                peak[p],
                peak.get('baseline'),
                bench.count_flops(ways[p]),
                bench.matrix_peak(PRECISIONS[p] or torch.float32, device),
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
    )
    cfg.load_from = args.checkpoint
    cfg.model.backbone.init_cfg = None
    cfg.custom_hooks = []
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


def main() -> None:
    args = parse_args()
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
            f'{device}, PyTorch {torch.__version__}, '
            f'{args.size[0]}x{args.size[1]}{changed(args)}\n\n'
            f'{bench.render(found)}'
        )
    if args.json:
        with atomic_path(args.json) as path:
            path.write_text(json.dumps(result, indent=2) + '\n')


if __name__ == '__main__':
    run_command(main)
