"""Test a checkpoint, with one eval seed or many in one pass over the data.

    python tools/test.py CONFIG CHECKPOINT [--eval-seeds 0 1 2 3 4]
        [--steps 1 4 20] [--ledger FILE.tsv | --no-ledger] [--force]
        [--work-dir DIR] [--out FILE.pkl] [--show-dir DIR]
        [--cfg-options KEY=VALUE ...]

Each eval seed and number of steps is a row of the ledger; one that is there
already is not tested again. The resolved config is written beside the log.
"""
import argparse
import json
from pathlib import Path

from mmdet.engine.hooks.utils import trigger_visualization_hook
from mmengine.runner import Runner

from mmdiffdet.engine.launch import add_common_arguments, load_config
from mmdiffdet.utils import atomic_path


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='.pth or .safetensors file')
    parser.add_argument(
        '--eval-seeds', nargs='+', type=int, help='seeds of the noise')
    parser.add_argument(
        '--steps', nargs='+', type=int, help='numbers of sampling steps')
    parser.add_argument(
        '--ledger',
        default='work_dirs/ledger/results.tsv',
        help='where rows are appended')
    parser.add_argument(
        '--no-ledger', action='store_true', help='write no rows')
    parser.add_argument(
        '--exp-name', help='of the rows, the same for all train seeds; by '
        "default made of the checkpoint's path")
    parser.add_argument(
        '--force', action='store_true', help='replace rows that are there')
    parser.add_argument('--out', help='write detections to this .pkl file')
    parser.add_argument(
        '--metrics', help='write the metrics to this .json file')
    parser.add_argument(
        '--show', action='store_true', help='show detections in a window')
    parser.add_argument(
        '--show-dir',
        help='paint detections into this folder below the work directory')
    parser.add_argument(
        '--wait-time', type=float, default=2, help='seconds of --show')
    add_common_arguments(parser)
    args = parser.parse_args()
    if args.out and not args.out.endswith(('.pkl', '.pickle')):
        parser.error('--out must end in .pkl or .pickle')
    return args


def main() -> None:
    args = parse_args()
    cfg = load_config(args)
    cfg.load_from = args.checkpoint
    # all weights come from the checkpoint
    cfg.model.backbone.init_cfg = None
    if args.show or args.show_dir:
        cfg = trigger_visualization_hook(cfg, args)
    cfg.test_cfg.type = 'MultiSeedTestLoop'
    if args.eval_seeds:
        cfg.test_cfg.eval_seeds = args.eval_seeds
    if args.steps:
        cfg.test_cfg.variants = [
            dict(variant, sampling_timesteps=steps)
            for variant in cfg.test_cfg.get('variants', [{}])
            for steps in args.steps
        ]
    if args.out:
        cfg.test_cfg.out = args.out
    if not args.no_ledger:
        cfg.custom_hooks = [
            *cfg.get('custom_hooks', []),
            dict(
                type='LedgerHook',
                path=args.ledger,
                config=args.config,
                exp_name=args.exp_name,
                force=args.force,
                always=bool(args.out or args.show or args.show_dir))
        ]
    runner = Runner.from_cfg(cfg)
    metrics = runner.test()
    if args.metrics and runner.rank == 0:
        with atomic_path(Path(args.metrics)) as path:
            path.write_text(json.dumps(metrics, indent=2) + '\n')


if __name__ == '__main__':
    main()
