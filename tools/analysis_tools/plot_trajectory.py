"""Draw images' boxes at every sampling step, or write them for a page's viewer.

    python tools/analysis_tools/plot_trajectory.py CONFIG CHECKPOINT OUT.png
        [--image-index 0] [--steps 8] [--score-thr 0.3]
    python tools/analysis_tools/plot_trajectory.py CONFIG CHECKPOINT OUT.json
        [--image-index 0 1 2 3] [--steps 8] [--name TEXT]

Images are taken from the test set of the config. Boxes are followed from
noise to the end: none is renewed on the way, and no noise is added (eta 0).
tools/analysis_tools/result_page.py puts JSON files on a page (--trajectories).
"""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, List

from mmdiffdet.command import make_parser, run_command
from mmdiffdet.utils import atomic_path

if TYPE_CHECKING:
    from torch.utils.data import Dataset

    from mmdiffdet.models import DiffusionDet


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('out', type=Path, help='a picture (.png), or data for a page (.json)')
    parser.add_argument(
        '--image-index', nargs='+', type=int, default=[0], help='several for .json only'
    )
    parser.add_argument('--steps', type=int, default=8)
    parser.add_argument('--score-thr', type=float, help='of the picture (default 0.3)')
    parser.add_argument('--name', help='of the model in the viewer (default: name of OUT.json)')
    parser.add_argument('--device', default='cpu')
    args = parser.parse_args()
    if args.out.suffix == '.json':
        if args.score_thr is not None:
            parser.error('--score-thr is for a picture; the viewer has a slider')
    elif args.out.suffix != '.png':
        parser.error(f'{args.out} must end in .png or .json')
    elif len(args.image_index) > 1 or args.name is not None:
        parser.error('several of --image-index, and --name, are for OUT.json')
    if args.score_thr is None:
        args.score_thr = 0.3
    if len(set(args.image_index)) < len(args.image_index):
        parser.error(f'--image-index names an image twice: {args.image_index}')
    return args


def write(args: argparse.Namespace, model: 'DiffusionDet', dataset: 'Dataset') -> None:
    """Write what is asked for, all of it or nothing."""
    from mmengine.dataset import pseudo_collate

    from mmdiffdet.visualization import plot_trajectory, record_trajectory, trajectory_data

    classes = dataset.metainfo['classes']
    power = model.test_cfg['quality_power']
    images: List[dict] = []
    for index in args.image_index:
        data = pseudo_collate([dataset[index]])
        meta = data['data_samples'][0].metainfo
        found = (*record_trajectory(model, data), meta['img_path'], meta['img_shape'])
        if args.out.suffix != '.json':
            plot_trajectory(
                *found, classes, args.out, 0.3 if args.score_thr is None else args.score_thr, power
            )
            return
        images.append(trajectory_data(*found, power))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    content = dict(name=args.name or args.out.stem, classes=list(classes), images=images)
    with atomic_path(args.out) as path:
        path.write_text(json.dumps(content, separators=(',', ':')) + '\n', encoding='utf-8')


def main() -> None:
    args = parse_args()
    # late, so that --help is quick; the package comes before MMEngine
    from mmdiffdet.config.file import read_config
    from mmdiffdet.engine.checkpoint import load_weights
    from mmdiffdet.registry import DATASETS, MODELS

    # isort: split
    from mmengine.registry import init_default_scope

    cfg = read_config(args.config)
    cfg.model.sampler.update(sampling_timesteps=args.steps, eta=0.0, renewal=None, ensemble=None)
    cfg.model.backbone.init_cfg = None
    init_default_scope('mmdiffdet')
    model = MODELS.build(cfg.model)
    load_weights(model, args.checkpoint, f'{args.config} does not describe it')
    model.to(args.device).eval()
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    for index in args.image_index:
        if not 0 <= index < len(dataset):
            raise ValueError(
                f'--image-index {index}: the test set has {len(dataset)} images, from 0'
            )
    write(args, model, dataset)
    print(f'wrote {args.out}')


if __name__ == '__main__':
    run_command(main)
