"""Fill in what a config leaves to annotation files and to ``EXTRA_COCO_DATASETS``."""

import os
import os.path as osp
import warnings
from collections import Counter
from typing import Dict, List, NamedTuple

from mmengine.config import Config, ConfigDict

from ..utils import leaf_datasets
from .coco_file import read_coco
from .loading import FROM_FILE, require_file
from .voc import name_of, read_names, read_xml
from .yolo import class_file, yolo_classes

_SPLITS = ('train', 'val', 'test')


class CocoFiles(NamedTuple):
    """An annotation file in COCO format, and the folder of its images."""

    ann_file: str
    images: str


def extra_coco_datasets() -> Dict[str, CocoFiles]:
    """Data sets of ``EXTRA_COCO_DATASETS="name,json,images;..."``, by name.

    ValueError if an entry has another form or a name stands twice.
    """
    found: Dict[str, CocoFiles] = {}
    entries = os.environ.get('EXTRA_COCO_DATASETS', '').split(';')
    for number, entry in enumerate(entries, 1):
        if not entry.strip():
            continue  # a semicolon at the end
        parts = [part.strip() for part in entry.split(',')]
        where = f'EXTRA_COCO_DATASETS: entry {number}, {entry.strip()!r}, '
        if len(parts) != 3 or not all(parts) or '/' in parts[0]:
            raise ValueError(
                where + 'must be name,json,images: a name without a slash, '
                'an annotation file and its folder of images'
            )
        if parts[0] in found:
            raise ValueError(where + f'repeats the name {parts[0]}')
        found[parts[0]] = CocoFiles(*parts[1:])
    return found


def use_extra_coco(cfg: Config) -> None:
    """Put files in the place of names of ``EXTRA_COCO_DATASETS`` in a config.

    Where a data set's or an evaluator's ``ann_file`` is such a name, or ends in one
    after a slash, it becomes that name's file, and the data set gets its images.
    """
    extra = extra_coco_datasets()
    for split in _SPLITS:
        for dataset in _leaves(cfg, split):
            files = extra.get(osp.basename(dataset.get('ann_file', '')))
            if files:
                dataset.update(
                    data_root='', ann_file=files.ann_file, data_prefix=dict(img=files.images)
                )
        evaluators = cfg.get(f'{split}_evaluator') or []
        for metric in evaluators if isinstance(evaluators, list) else [evaluators]:
            files = extra.get(osp.basename(metric.get('ann_file') or ''))
            if files:
                metric.ann_file = files.ann_file


def use_classes_of_file(cfg: Config) -> None:
    """Read the classes of a config whose ``metainfo.classes`` is ``'from_file'``.

    They are those of the training files: COCO's categories in their order, the
    sorted names of VOC's XML files, or YOLO's ``data.yaml``. The model and the data
    sets of other splits that ask for them get them too. ValueError if a file cannot
    be read, or the training data set does not ask for its classes.
    """
    asking = {split: [d for d in _leaves(cfg, split) if _asks(d)] for split in _SPLITS}
    if not any(asking.values()):
        return
    classes = tuple(
        dict.fromkeys(name for dataset in asking['train'] for name in _classes_of(dataset))
    )
    if not asking['train']:
        raise ValueError(
            f'metainfo.classes={FROM_FILE!r}: the data set of '
            "train_dataloader, whose classes are the model's, must ask for "
            'it too'
        )
    if not classes:
        files = [osp.join(d.get('data_root') or '', d.ann_file) for d in asking['train']]
        raise ValueError(f'metainfo.classes={FROM_FILE!r}: {", ".join(files)} has no classes')
    alike = Counter(' '.join(name.casefold().split()) for name in classes)
    if len(alike) < len(classes):
        names = [n for n in classes if alike[' '.join(n.casefold().split())] > 1]
        warnings.warn(
            f'classes {names[:4]} differ only in case or blanks, and are classes of their own',
            stacklevel=2,
        )
    for datasets in asking.values():
        for dataset in datasets:
            dataset.metainfo.classes = classes
    head = cfg.get('model', {}).get('bbox_head')
    if head is not None:
        head.num_classes = len(classes)


def voc_classes(ann_file: str, folder: str) -> List[str]:
    """Sorted class names in the XML files of ``folder`` that the list ``ann_file`` names."""
    require_file(ann_file, 'VOCDataset')
    names = set()
    for image in read_names(ann_file):
        path = osp.join(folder, f'{image}.xml')
        names.update(name_of(item, path) for item in read_xml(path).iter('object'))
    return sorted(names)


def _leaves(cfg: Config, split: str) -> List[ConfigDict]:
    loader = cfg.get(f'{split}_dataloader')
    return leaf_datasets(loader.dataset) if loader else []


def _asks(dataset: ConfigDict) -> bool:
    return (dataset.get('metainfo') or {}).get('classes') == FROM_FILE


def _classes_of(dataset: ConfigDict) -> List[str]:
    kind = dataset.type.split('.')[-1]
    root = dataset.get('data_root', '')
    path = osp.join(root, dataset.ann_file)
    if kind == 'VOCDataset':
        below = dataset.get('data_prefix', {}).get('sub_data_root', '')
        return voc_classes(path, osp.join(root, below, dataset.get('ann_subdir', 'Annotations')))
    if kind == 'YOLODataset':
        return yolo_classes(class_file(root))
    if kind != 'CocoDataset':
        raise ValueError(
            f'metainfo.classes={FROM_FILE!r} is for CocoDataset, VOCDataset and YOLODataset, '
            f'not for {kind}'
        )
    require_file(path, kind)
    return [category['name'] for category in read_coco(path)['categories']]
