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
from typing import Dict, List

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


def inference(cfg: Config, args: argparse.Namespace,
              found: List[bench.Measurement]) -> Dict[str, Dict[str, float]]:
    """Fill in the measurements; gives the parts of a head's step."""
    pair = bench.build_pair(cfg, args.checkpoint, args.reference)
    ours, reference = pair['ours'], pair.get('reference')
    device = next(ours.parameters()).device
    peaks = {p: bench.matrix_peak(PRECISIONS[p] or torch.float32, device)
             for p in args.precisions}
    profile: Dict[str, Dict[str, float]] = {}

    def measure(work: str, images: int, make, flops: bool = False) -> None:
        """``make(model, ours)`` gives a call for the state of testing."""
        ways = dict.fromkeys(args.precisions, make(ours, True))
        states = {p: partial(bench.testing, ours, p) for p in args.precisions}
        if reference is not None:
            ways['reference'] = make(reference, False)
            states['reference'] = partial(bench.testing, reference, 'fp32')
        seconds = bench.interleave(ways, args.repeats, states)
        peak = {}
        for name, way in ways.items():
            with states[name]():
                peak[name] = bench.peak_memory(way)
        for p in args.precisions:
            count = None
            if flops:
                with states[p]():
                    count = bench.count_flops(ways[p])
            found.append(
                bench.Measurement(
                    work, images, p, seconds[p], seconds.get('reference'),
                    peak[p], peak.get('reference'), count,
                    count and count / seconds[p] / peaks[p]))
            print(f'{work}, {images} image(s), {p}: '
                  f'{1000 * seconds[p] / images:.1f} ms/image',
                  file=sys.stderr)

    with bench.decoding_way(cfg, args.size) as decode:
        seconds = bench.interleave({'': decode}, args.repeats)['']
        found.append(bench.Measurement('decode', 1, 'uint8', seconds))
    for batch_size in args.batch_sizes or (1, 4):
        data = bench.random_batch(
            tuple(args.size), batch_size, ours.bbox_head.num_classes)
        for part in ('backbone and neck', 'head, one step',
                     'post-processing'):

            def make_part(model, ours, part=part):
                with bench.testing(model, 'fp32'):
                    return bench.inference_parts(model, data)[part]

            measure(part, batch_size, make_part, 'post' not in part)
        for steps in args.steps or (1, 4, 20):
            variants = bench.sampling_variants(cfg, steps)
            measure(
                f'image, {steps} step(s)', batch_size, lambda model, ours:
                bench.image_way(model, data, variants, True))
        several = bench.sampling_variants(cfg, 1, args.eval_seeds)
        measure(f'{args.eval_seeds} eval seeds, 1 step', batch_size,
                lambda model, ours: bench.image_way(
                    model, data, several, one_pass=ours))
        for name, model, p in [(p, ours, p) for p in args.precisions] + (
                [('reference', reference, 'fp32')] if reference else []):
            with bench.testing(model, p):
                profile[f'{name}, {batch_size} image(s)'] = \
                    bench.median_parts(
                        bench.head_parts(model), 'head, one step',
                        bench.inference_parts(model, data)['head, one step'],
                        args.repeats)
    return profile


def training(cfg: Config, args: argparse.Namespace,
             found: List[bench.Measurement]) -> None:
    """Fill in the measurements of an iteration."""
    for batch_size in args.batch_sizes or (
            cfg.train_dataloader.batch_size, ):
        ways = {}
        for p in args.precisions:
            model = bench.build_pair(cfg, args.checkpoint, False)['ours']
            data = bench.random_batch(
                tuple(args.size), batch_size, model.bbox_head.num_classes)
            ways[p] = bench.training_way(cfg, model, data, p)
        if args.reference:
            model = bench.build_pair(cfg, args.checkpoint)['reference']
            ways['reference'] = bench.training_way(cfg, model, data, 'fp32',
                                                   share_backbone=False)
        seconds = bench.interleave(ways, args.repeats)
        peak = {name: bench.peak_memory(way) for name, way in ways.items()}
        work = 'training iteration' + (
            ' with teacher' if getattr(model, 'distiller', None) else '')
        for p in args.precisions:
            found.append(
                bench.Measurement(work, batch_size, p, seconds[p],
                                  seconds.get('reference'), peak[p],
                                  peak.get('reference')))


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
    result = {}
    try:
        if args.curves:
            result['points'] = curves(cfg, args)
        elif args.training:
            training(cfg, args, found)
        else:
            result['head_seconds'] = inference(cfg, args, found)
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
