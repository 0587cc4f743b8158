"""Test a checkpoint, with one eval seed or many in one pass over the data.

    python tools/test.py CONFIG CHECKPOINT [--eval-seeds 0 1 2 3 4]
        [--steps 1 4 20] [--tta] [--ledger FILE.tsv | --no-ledger] [--force]
        [--work-dir DIR] [--out FILE.pkl] [--show-dir DIR]
        [--cfg-options KEY=VALUE ...]

Each eval seed and number of steps is a row of the ledger; one that is there
already is not tested again. The resolved config is written beside the log.
"""

import argparse
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, List, Optional

from mmdiffdet.command import add_common_arguments, make_parser, run_command
from mmdiffdet.utils import atomic_path

if TYPE_CHECKING:
    from mmengine.config import Config


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='.pth or .safetensors file')
    parser.add_argument('--eval-seeds', nargs='+', type=int, help='seeds of the noise')
    parser.add_argument('--steps', nargs='+', type=int, help='numbers of sampling steps')
    parser.add_argument(
        '--tta',
        action='store_true',
        help='test-time augmentation: scales '
        'and mirror images, or tta_model and tta_pipeline of the config',
    )
    parser.add_argument(
        '--ledger', default='work_dirs/ledger/results.tsv', help='where rows are appended'
    )
    parser.add_argument('--no-ledger', action='store_true', help='write no rows')
    parser.add_argument(
        '--exp-name',
        help='of the rows, the same for all train seeds; by '
        "default made of the checkpoint's path and --cfg-options",
    )
    parser.add_argument('--force', action='store_true', help='replace rows that are there')
    parser.add_argument('--out', help='write detections to this .pkl file')
    parser.add_argument('--metrics', help='write the metrics to this .json file')
    parser.add_argument('--show', action='store_true', help='show detections in a window')
    parser.add_argument(
        '--show-dir', help='paint detections into this folder below the work directory'
    )
    parser.add_argument('--wait-time', type=float, default=2, help='seconds of --show')
    add_common_arguments(parser)
    args = parser.parse_args()
    if args.out and not args.out.endswith(('.pkl', '.pickle')):
        parser.error('--out must end in .pkl or .pickle')
    return args


# options of the model that are columns of a row, and no part of its name
_COLUMNS = ('sampler.sampling_timesteps', 'sampler.eta', 'sampler.scheduler.type')
_COLUMNS += ('test_cfg.eval_seed',)


def changes_of(options: Optional[dict]) -> List[str]:
    """The changes of the model by ``--cfg-options``, for the name of a row."""
    changes = []
    for key, value in sorted((options or {}).items()):
        part, _, name = key.partition('.')
        if part == 'model' and name not in _COLUMNS:
            text = re.sub(r'[^\w.-]+', '-', str(value)).strip('-')
            keys = name.split('.')  # a type is named with its owner
            short = '.'.join(keys[-2:] if keys[-1] == 'type' else keys[-1:])
            changes.append(f'{short}={text}')
    return changes


def set_up_loop(cfg: 'Config', args: argparse.Namespace) -> None:
    """Set seeds, steps and outputs; the config may be that of an earlier test."""
    loop = cfg.test_cfg
    loop.update(type='MultiSeedTestLoop', out=args.out)
    if args.eval_seeds:
        loop.eval_seeds = args.eval_seeds
    if args.steps:
        others = []
        for variant in loop.get('variants', [{}]):
            other = {k: v for k, v in variant.items() if k != 'sampling_timesteps'}
            if other not in others:
                others.append(other)
        loop.variants = [
            dict(other, sampling_timesteps=steps) for other in others for steps in args.steps
        ]
    if args.tta:
        from mmdiffdet.engine.test_time_aug import use_tta

        use_tta(cfg)
    # a student is tested without its teacher
    hooks = [
        hook
        for hook in cfg.get('custom_hooks', [])
        if hook.type != 'LedgerHook' and 'teacher' not in hook
    ]
    if not args.no_ledger:
        hooks.append(
            dict(
                type='LedgerHook',
                path=args.ledger,
                config=args.config,
                exp_name=args.exp_name,
                changes=changes_of(args.cfg_options),
                force=args.force,
                always=bool(args.out or args.show or args.show_dir),
            )
        )
    cfg.custom_hooks = hooks


def main() -> None:
    args = parse_args()
    # late, so that --help is quick; the package comes before MMEngine and MMDetection
    from mmdiffdet.config.command_line import load_config
    from mmdiffdet.engine.processes import leave_processes
    from mmdiffdet.engine.require_checkpoint import require_checkpoint

    # isort: split
    from mmengine.runner import Runner

    cfg = load_config(args)
    require_checkpoint(args.checkpoint, 'test')
    cfg.load_from = args.checkpoint
    # strategies are for training; checkpoints do not depend on them
    cfg.pop('runner_type', None)
    cfg.pop('strategy', None)
    # all weights come from the checkpoint
    cfg.model.backbone.init_cfg = None
    if args.show or args.show_dir:
        from mmdiffdet.engine.paint_hook import use_painting

        use_painting(cfg, args.show, args.show_dir, args.wait_time)
    set_up_loop(cfg, args)
    runner = Runner.from_cfg(cfg)
    metrics = runner.test()
    if args.metrics and runner.rank == 0:
        with atomic_path(Path(args.metrics)) as path:
            path.write_text(json.dumps(metrics, indent=2) + '\n')
    leave_processes()


if __name__ == '__main__':
    run_command(main)
