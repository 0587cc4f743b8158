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
import os.path as osp
import sys
import warnings
from pathlib import Path
from typing import Dict, List, Set

import cv2
import mmcv
import numpy as np
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import init_default_scope

import mmdiffdet.engine  # noqa: F401 fills the registries
from mmdiffdet.datasets.checks import DatasetReport, check_dataset, leaf_datasets
from mmdiffdet.datasets.image_file import BadImage, read_image
from mmdiffdet.engine.config_file import read_config
from mmdiffdet.evaluation.rehearsal import rehearse
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
        image, _ = read_image(info['img_path'], (info['height'], info['width']))
    except (BadImage, FileNotFoundError):  # told by the report
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
    return mmcv.impad(image, shape=TILE[::-1], pad_val=(255, 255, 255))


def write_sheet(tiles: List[np.ndarray], path: Path) -> None:
    """Tiles in rows of four."""
    empty = np.full_like(tiles[0], 255)
    tiles = tiles + [empty] * (-len(tiles) % 4)
    rows = [np.hstack(tiles[i : i + 4]) for i in range(0, len(tiles), 4)]
    with atomic_path(path) as temporary:
        mmcv.imwrite(np.vstack(rows), str(temporary))


def build(part: dict, report_to: List[str]) -> BaseDataset:
    """A data set; what it warns of is added to ``report_to``."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter('always')
        dataset = DATASETS.build(part)
    report_to += [str(w.message) for w in told if issubclass(w.category, UserWarning)]
    return dataset


def check_evaluation(cfg: Config, split: str, dataset: BaseDataset, report: DatasetReport) -> None:
    """Let the metrics of a split evaluate its own objects."""
    evaluator = cfg.get(f'{split}_evaluator')
    if not evaluator:
        return
    try:
        values = rehearse(evaluator, dataset)
    except Exception as error:  # depends on the metric
        report.note('evaluation fails', f'{type(error).__name__}: {error}', error=True)
        return
    for name, value in values.items():
        if name.endswith('mAP') and 0 <= value < 0.99:
            report.note(
                'metric in which a detector that finds every object exactly does not reach 1 '
                '(more than 100 objects in an image, or boxes out of it?)',
                f'{name}: {value:.3f}',
            )


def check_model(cfg: Config, dataset: BaseDataset, report: DatasetReport) -> None:
    """Compare the number of classes with the model's."""
    expected = (cfg.get('model', {}).get('bbox_head') or {}).get('num_classes')
    found = len(dataset.metainfo['classes'])
    if expected is not None and expected != found:
        report.note(
            'model.bbox_head.num_classes is not the number of classes',
            f'{expected}, the data set has {found}',
            error=True,
        )


def check_split(cfg: Config, split: str, args: argparse.Namespace, tiles: list) -> tuple:
    """All data sets of a split.

    Returns:
        tuple: Whether one failed, and the images' paths.
    """
    failed, paths = False, set()
    loader = cfg.get(f'{split}_dataloader')
    if not loader:
        print(f'\n{split}: the config has no {split}_dataloader')
        return False, paths
    part_of_model = 'train_cfg' if split == 'train' else 'test_cfg'
    num_proposals = (cfg.get('model', {}).get(part_of_model) or {}).get('num_proposals')
    parts = leaf_datasets(loader.dataset)
    for part in parts:
        print(f'\n{split}: {osp.join(part.get("data_root") or "", part.ann_file)}')
        told: List[str] = []
        try:
            dataset = build(part, told)
            report = check_dataset(dataset, num_proposals)
        except Exception as error:  # whatever training would stop with
            kind = '' if isinstance(error, (OSError, ValueError)) else f'{type(error).__name__}: '
            print(f'ERROR: {kind}{error}')
            failed = True
            continue
        check_model(cfg, dataset, report)
        if split != 'train' and len(parts) == 1:
            check_evaluation(cfg, split, dataset, report)
        for text in dict.fromkeys(told):
            print(f'warning: {text}')
        print(report.text())
        failed |= report.failed
        infos = [dataset.get_data_info(i) for i in range(len(dataset))]
        paths |= {osp.realpath(info['img_path']) for info in infos}
        count = min(args.samples, len(dataset)) if args.sheet else 0
        places = np.linspace(0, len(dataset) - 1, count, dtype=int)
        tiles += [draw(dataset, int(i)) for i in places]
    return failed, paths


def main() -> int:
    args = parse_args()
    try:
        cfg = read_config(args.config)
    except (OSError, ValueError) as error:
        print(f'ERROR: {error}')
        return 1
    init_default_scope('mmdiffdet')
    failed, tiles = False, []
    paths: Dict[str, Set[str]] = {}
    for split in args.splits:
        split_failed, paths[split] = check_split(cfg, split, args, tiles)
        failed |= split_failed
    shared = paths.get('train', set()) & (paths.get('val', set()) | paths.get('test', set()))
    if shared:
        print(f'\nwarning: image to train on and to test with: {len(shared)} ({min(shared)})')
    if args.sheet and tiles:
        write_sheet(tiles, args.sheet)
        print(f'\nwrote {args.sheet}')
    return int(failed)


if __name__ == '__main__':
    sys.exit(main())
