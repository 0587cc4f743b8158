"""Look at a data set before it is trained on.

    python tools/check_dataset.py CONFIG [--splits train val test]
        [--sheet sheet.jpg] [--samples 12]

Counts images, objects and classes; tells of boxes without area, out of the
image or standing twice, of images with more objects than the model has
proposals, of unreadable images and of sizes that are not those that are
annotated; --sheet draws samples. Exit code 1 if training would fail.
"""

import argparse
import sys
from pathlib import Path
from typing import List

import cv2
import mmcv
import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.registry import init_default_scope

import mmdiffdet.engine  # noqa: F401 fills the registries
from mmdiffdet.datasets.checks import check_dataset, leaf_datasets
from mmdiffdet.engine.config_file import read_config
from mmdiffdet.registry import DATASETS
from mmdiffdet.utils import atomic_path

TILE = (320, 240)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--splits', nargs='+', choices=['train', 'val', 'test'], default=['train', 'val']
    )
    parser.add_argument('--sheet', type=Path, help='contact sheet to write')
    parser.add_argument('--samples', type=int, default=12)
    return parser.parse_args()


def draw(dataset: BaseDataset, index: int) -> np.ndarray:
    """A tile with the image and its boxes."""
    info = dataset.get_data_info(index)
    try:
        image = mmcv.imread(info['img_path'])
    except Exception:  # told by the report
        image = None
    if image is None:
        return np.zeros((TILE[1], TILE[0], 3), np.uint8)
    scale = min(TILE[0] / image.shape[1], TILE[1] / image.shape[0])
    image = mmcv.imrescale(image, scale)
    palette = dataset.metainfo.get('palette') or [(0, 255, 0)]
    for instance in info['instances']:
        label = instance['bbox_label']
        ignored = instance.get('ignore_flag') or label < 0
        color = (128,) * 3 if ignored else palette[label % len(palette)][::-1]
        x1, y1, x2, y2 = (int(round(v * scale)) for v in instance['bbox'])
        cv2.rectangle(image, (x1, y1), (x2, y2), color, 1)
        name = 'ignored' if ignored else dataset.metainfo['classes'][label]
        cv2.putText(image, name, (x1, max(y1 - 2, 8)), cv2.FONT_HERSHEY_SIMPLEX, 0.35, color, 1)
    return mmcv.impad(image, shape=TILE[::-1], pad_val=255)


def write_sheet(tiles: List[np.ndarray], path: Path) -> None:
    """Tiles in rows of four."""
    empty = np.full_like(tiles[0], 255)
    tiles = tiles + [empty] * (-len(tiles) % 4)
    rows = [np.hstack(tiles[i : i + 4]) for i in range(0, len(tiles), 4)]
    with atomic_path(path) as temporary:
        mmcv.imwrite(np.vstack(rows), str(temporary))


def main() -> int:
    args = parse_args()
    try:
        cfg = read_config(args.config)
    except (OSError, ValueError) as error:
        print(f'ERROR: {error}')
        return 1
    init_default_scope('mmdiffdet')
    failed, tiles = False, []
    for split in args.splits:
        part_of_model = 'train_cfg' if split == 'train' else 'test_cfg'
        num_proposals = (cfg.get('model', {}).get(part_of_model) or {}).get('num_proposals')
        for part in leaf_datasets(cfg[f'{split}_dataloader'].dataset):
            print(f'\n{split}: {part.get("data_root", "")}{part.ann_file}')
            try:
                dataset = DATASETS.build(part)
                report = check_dataset(dataset, num_proposals)
            except (OSError, ValueError) as error:
                print(f'ERROR: {error}')
                failed = True
                continue
            print(report.text())
            failed |= report.failed
            count = min(args.samples, len(dataset))
            places = np.linspace(0, len(dataset) - 1, count, dtype=int)
            tiles += [draw(dataset, int(i)) for i in places]
    if args.sheet and tiles:
        write_sheet(tiles, args.sheet)
        print(f'\nwrote {args.sheet}')
    return int(failed)


if __name__ == '__main__':
    sys.exit(main())
