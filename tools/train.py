"""Train a detector.

python tools/train.py CONFIG [--finetune CHECKPOINT] [--epochs N] [--amp]
    [--resume [FILE]] [--work-dir DIR] [--auto-scale-lr]
    [--on-bad-image stop|skip] [--cfg-options KEY=VALUE ...]
"""

import argparse

from mmdiffdet.command import add_common_arguments, make_parser, run_command


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision')
    parser.add_argument(
        '--auto-scale-lr', action='store_true', help='scale the learning rate with the batch size'
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='a checkpoint, or the latest one in the work directory',
    )
    parser.add_argument(
        '--finetune',
        metavar='CHECKPOINT',
        help='start from the weights of a checkpoint; those of its classes start fresh if the '
        'classes are others, all else must fit. Trains 24 epochs, unless --epochs '
        'or --cfg-options train_cfg... say otherwise',
    )
    parser.add_argument(
        '--epochs', type=int, help='train by epochs, with the schedule of the config stretched'
    )
    parser.add_argument(
        '--on-bad-image',
        choices=['stop', 'skip'],
        help='what to do about images that nothing can decode: end with an error, or take another '
        'one in training and a grey one in validation; by default as on_bad_image of the data '
        'sets says, else stop',
    )
    add_common_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from mmdiffdet.config.command_line import load_config
    from mmdiffdet.engine.finetune import start_from, use_on_bad_image, use_schedule
    from mmdiffdet.engine.processes import leave_processes
    from mmdiffdet.engine.require_checkpoint import require_checkpoint
    from mmdiffdet.engine.resume import use_resume
    from mmdiffdet.engine.trainer import build_trainer, training_lock, use_amp

    cfg = load_config(args)
    use_amp(cfg, args.amp)
    if args.finetune is not None:
        start_from(cfg, args.finetune)
    use_schedule(cfg, args.epochs, args.finetune is not None, args.cfg_options)
    use_on_bad_image(cfg, args.on_bad_image)
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise ValueError(f'--auto-scale-lr: {args.config} has no auto_scale_lr.base_batch_size')
        cfg.auto_scale_lr.enable = True
    use_resume(cfg, args.resume)
    if cfg.get('load_from'):
        require_checkpoint(cfg.load_from, '--finetune' if args.finetune else 'load_from')
    pretrained = (cfg.model.backbone.get('init_cfg') or {}).get('checkpoint')
    if pretrained:
        require_checkpoint(pretrained, 'model.backbone.init_cfg')
    with training_lock(cfg.work_dir, cfg.launcher):
        build_trainer(cfg).train()
    leave_processes()


if __name__ == '__main__':
    run_command(main)
