"""A whole config's data sets, models' classes and metrics, checked and printed."""

import os.path as osp
import warnings
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Set, Tuple

import cv2
import mmcv
import numpy as np
from matplotlib import colormaps
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import init_default_scope

from ..evaluation.rehearsal import rehearse
from ..registry import DATASETS
from ..utils import atomic_path, leaf_datasets
from .checks import DatasetReport, check_dataset
from .image_file import BadImage, read_image

TILE = (320, 240)
# Matplotlib's default colours, in which trajectories are drawn too
_COLOURS = [tuple(round(255 * c) for c in colour) for colour in colormaps['tab10'].colors]


def check_config(
    cfg: Config, splits: Sequence[str], sheet: Optional[Path] = None, samples: int = 12
) -> bool:
    """Check the data sets of a config (from ``read_config``) and print what is found.

    ``splits`` names some of train, val and test. ``sheet`` is a contact sheet to
    write, with ``samples`` images of each data set. Returns whether training or
    testing would stop, or learn from wrong places.
    """
    init_default_scope('mmdiffdet')
    failed, tiles = False, []
    paths: Dict[str, Set[str]] = {}
    for split in splits:
        split_failed, paths[split] = _check_split(cfg, split, samples if sheet else 0, tiles)
        failed |= split_failed
    shared = paths.get('train', set()) & (paths.get('val', set()) | paths.get('test', set()))
    if shared:
        print(f'\nwarning: image to train on and to test with: {len(shared)} ({min(shared)})')
    if sheet and tiles:
        _write_sheet(tiles, sheet)
        print(f'\nwrote {sheet}')
    return failed


def _draw(dataset: BaseDataset, index: int) -> np.ndarray:
    """A tile of the contact sheet with an image and its boxes."""
    info = dataset.get_data_info(index)
    try:
        image, _ = read_image(info['img_path'], (info['height'], info['width']))
    except (BadImage, FileNotFoundError):  # told by the report
        return np.zeros((TILE[1], TILE[0], 3), np.uint8)
    scale = min(TILE[0] / image.shape[1], TILE[1] / image.shape[0])
    image = mmcv.imrescale(image, scale)
    classes = dataset.metainfo['classes']
    palette = dataset.metainfo.get('palette') or _COLOURS
    for instance in info['instances']:
        label = instance['bbox_label']
        ignored = instance.get('ignore_flag') or label < 0
        color = (128,) * 3 if ignored else palette[label % len(palette)][::-1]
        x1, y1, x2, y2 = (int(round(v * scale)) for v in instance['bbox'])
        cv2.rectangle(image, (x1, y1), (x2, y2), color, 1)
        name = 'ignored' if ignored else classes[label]
        cv2.putText(image, name, (x1, max(y1 - 2, 8)), cv2.FONT_HERSHEY_SIMPLEX, 0.35, color, 1)
    return mmcv.impad(image, shape=TILE[::-1], pad_val=(255, 255, 255))


def _write_sheet(tiles: List[np.ndarray], path: Path) -> None:
    """Write the tiles in rows of four."""
    tiles = tiles + [np.full_like(tiles[0], 255)] * (-len(tiles) % 4)
    rows = [np.hstack(tiles[i : i + 4]) for i in range(0, len(tiles), 4)]
    with atomic_path(path) as temporary:
        mmcv.imwrite(np.vstack(rows), str(temporary))


def _check_evaluation(evaluator: dict, dataset: BaseDataset, report: DatasetReport) -> None:
    """Let the metrics of a split evaluate its own objects, as if they were detections."""
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


def _check_split(
    cfg: Config, split: str, samples: int, tiles: List[np.ndarray]
) -> Tuple[bool, Set[str]]:
    """Whether a data set of the split failed, and the paths of all images.

    ``samples`` images of each data set are drawn and added to ``tiles``.
    """
    failed, paths = False, set()
    loader = cfg.get(f'{split}_dataloader')
    if not loader:
        print(f'\n{split}: the config has no {split}_dataloader')
        return False, paths
    model = cfg.get('model', {})
    proposals = (model.get(f'{"train" if split == "train" else "test"}_cfg') or {}).get(
        'num_proposals'
    )
    num_classes = (model.get('bbox_head') or {}).get('num_classes')
    evaluator = cfg.get(f'{split}_evaluator')
    parts = leaf_datasets(loader.dataset)
    for part in parts:
        print(f'\n{split}: {osp.join(part.get("data_root") or "", part.ann_file)}')
        try:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter('always')
                dataset = DATASETS.build(part)
            report = check_dataset(dataset, proposals)
        except Exception as error:  # whatever training would stop with
            kind = '' if isinstance(error, (OSError, ValueError)) else f'{type(error).__name__}: '
            print(f'ERROR: {kind}{error}')
            failed = True
            continue
        found = len(dataset.metainfo['classes'])
        if num_classes not in (None, found):
            report.note(
                'model.bbox_head.num_classes is not the number of classes',
                f'{num_classes}, the data set has {found}',
                error=True,
            )
        if evaluator and split != 'train' and len(parts) == 1:
            _check_evaluation(evaluator, dataset, report)
        told = [str(w.message) for w in told if issubclass(w.category, UserWarning)]
        for text in dict.fromkeys(told):
            print(f'warning: {text}')
        print(report.text())
        failed |= report.failed
        size = len(dataset)
        paths |= {osp.realpath(dataset.get_data_info(i)['img_path']) for i in range(size)}
        places = np.linspace(0, size - 1, min(samples, size), dtype=int)
        tiles += [_draw(dataset, int(i)) for i in places]
    return failed, paths
