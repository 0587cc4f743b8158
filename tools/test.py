"""Test a checkpoint.

    python tools/test.py CONFIG CHECKPOINT [--work-dir DIR] [--out FILE.pkl]
        [--show-dir DIR] [--cfg-options KEY=VALUE ...]
"""
import argparse
import json
from pathlib import Path

from mmdet.engine.hooks.utils import trigger_visualization_hook
from mmdet.evaluation import DumpDetResults
from mmengine.runner import Runner

from mmdiffdet.engine.launch import add_common_arguments, load_config
from mmdiffdet.utils import atomic_path


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Test a checkpoint')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='.pth or .safetensors file')
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
    runner = Runner.from_cfg(cfg)
    if args.out:
        runner.test_evaluator.metrics.append(
            DumpDetResults(out_file_path=args.out))
    metrics = runner.test()
    if args.metrics and runner.rank == 0:
        with atomic_path(Path(args.metrics)) as path:
            path.write_text(json.dumps(metrics, indent=2) + '\n')


if __name__ == '__main__':
    main()
