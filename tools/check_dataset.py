"""Look at a data set before it is trained on.

    python tools/check_dataset.py CONFIG [--splits train val test]
        [--sheet sheet.jpg] [--samples 12]

Counts images, objects and classes; tells of boxes without area, out of the
image or standing twice, of images with more objects than the model has
proposals, that are cut, unreadable or of another size than annotated; puts
extreme images through the pipeline and the annotations through the metrics;
--sheet draws samples. Exit code 1 if training or testing would stop, or learn
from wrong places.
"""

import argparse
from pathlib import Path

from mmdiffdet.command import make_parser, run_command


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--splits', nargs='+', choices=['train', 'val', 'test'], default=['train', 'val']
    )
    parser.add_argument('--sheet', type=Path, help='contact sheet to write')
    parser.add_argument('--samples', type=int, default=12)
    args = parser.parse_args()
    if args.sheet and args.sheet.suffix.lower() not in ('.jpg', '.jpeg', '.png'):
        parser.error(f'--sheet must end in .jpg or .png, got {args.sheet}')
    if args.sheet and not args.sheet.parent.is_dir():
        parser.error(f'--sheet: there is no folder {args.sheet.parent}')
    if args.samples < 1:
        parser.error(f'--samples must be at least 1, got {args.samples}')
    return args


def main() -> int:
    args = parse_args()
    import mmdiffdet.engine  # noqa: F401 fills the registries
    from mmdiffdet.config.file import read_config
    from mmdiffdet.datasets.check_config import check_config

    cfg = read_config(args.config)
    return int(check_config(cfg, args.splits, args.sheet, args.samples))


if __name__ == '__main__':
    run_command(main)
