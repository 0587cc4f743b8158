"""Draw one image's boxes at every sampling step.

    python tools/analysis_tools/plot_trajectory.py CONFIG CHECKPOINT OUT.png
        [--image-index 0] [--steps 8]

The image is taken from the test set of the config. Boxes are followed from
noise to the end: none is renewed on the way, and no noise is added (eta 0).
"""

import argparse
from pathlib import Path

from mmdiffdet.command import add_traceback_argument, run_command


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('out', type=Path)
    parser.add_argument('--image-index', type=int, default=0)
    parser.add_argument('--steps', type=int, default=8)
    parser.add_argument('--score-thr', type=float, default=0.3)
    parser.add_argument('--device', default='cpu')
    add_traceback_argument(parser)
    args = parser.parse_args()
    # late, so that --help is quick; the package comes before MMEngine
    from mmdiffdet.config.file import read_config
    from mmdiffdet.engine.checkpoint import load_weights
    from mmdiffdet.registry import DATASETS, MODELS
    from mmdiffdet.visualization import plot_trajectory, record_trajectory

    # isort: split
    from mmengine.dataset import pseudo_collate
    from mmengine.registry import init_default_scope

    cfg = read_config(args.config)
    cfg.model.sampler.update(sampling_timesteps=args.steps, eta=0.0, renewal=None, ensemble=None)
    cfg.model.backbone.init_cfg = None
    init_default_scope('mmdiffdet')
    model = MODELS.build(cfg.model)
    load_weights(model, args.checkpoint, f'{args.config} does not describe it')
    model.to(args.device).eval()
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    if not 0 <= args.image_index < len(dataset):
        raise ValueError(
            f'--image-index {args.image_index}: the test set has {len(dataset)} images, from 0'
        )
    data = pseudo_collate([dataset[args.image_index]])
    steps, detections = record_trajectory(model, data)
    meta = data['data_samples'][0].metainfo
    plot_trajectory(
        steps,
        detections,
        meta['img_path'],
        meta['img_shape'],
        dataset.metainfo['classes'],
        args.out,
        args.score_thr,
        model.test_cfg['quality_power'],
    )
    print(f'wrote {args.out}')


if __name__ == '__main__':
    run_command(main)
