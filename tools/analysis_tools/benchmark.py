"""Time a detector, against MMDetection's way of computing the same numbers.

    python tools/analysis_tools/benchmark.py CONFIG [CHECKPOINT] [--baseline]
        [--size 800 1216] [--batch-sizes 1 4] [--steps 1 4 20]
        [--eval-seeds 0 1 2 3 4] [--precisions fp32 bf16] [--repeats 3]
        [--device cuda] [--json FILE] [--cfg-options KEY=VALUE ...]
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

On a GPU times are those of its own clock (events) and memory is what PyTorch
hands out; --cfg-options compile.mode=reduce-overhead replays graphs.

--training times an iteration, with its teacher if the config distils.
--curves tests a trained model on the config's test data with several solvers,
numbers of proposals and stages, and draws AP against milliseconds.
"""

import argparse
import os
from pathlib import Path

from mmdiffdet.command import OptionsAction, make_parser, run_command

PRECISIONS = ('fp32', 'bf16', 'fp16')


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError('must be at least 1')
    return number


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
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
    parser.add_argument(
        '--device', choices=['cpu', 'cuda'], help='by default a GPU if there is one'
    )
    parser.add_argument(
        '--peak-tflops',
        type=float,
        help='of 16 bits, as the maker of the card says; by default products are measured',
    )
    parser.add_argument(
        '--batch-sizes', type=positive, nargs='+', help='1 and 4; on GPUs 1, 4 and 16'
    )
    parser.add_argument('--steps', type=positive, nargs='+', help='1, 4 and 20')
    parser.add_argument(
        '--eval-seeds',
        type=int,
        nargs='+',
        help='that are tested in one pass, 0 to 4; of --curves 0 and 1',
    )
    parser.add_argument(
        '--precisions',
        nargs='+',
        choices=PRECISIONS,
        help='fp32 and bf16; of --curves that of the config',
    )
    parser.add_argument('--repeats', type=positive, default=3)
    parser.add_argument('--json', type=Path, help='write all numbers here')
    parser.add_argument('--training', action='store_true')
    parser.add_argument('--curves', type=Path, metavar='FILE.svg')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=OptionsAction,
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
    if args.peak_tflops is not None and not 0 < args.peak_tflops < float('inf'):
        parser.error('--peak-tflops: must be above 0')
    if min(args.size) < 64:
        parser.error('--size: at least 64 pixels a side')
    return args


def main() -> None:
    args = parse_args()
    if args.device == 'cpu':  # MMEngine takes a GPU that it sees
        os.environ['CUDA_VISIBLE_DEVICES'] = ''
    from mmdiffdet.benchmark.command import run

    run(args)


if __name__ == '__main__':
    run_command(main)
