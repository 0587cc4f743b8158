"""Data sets in YOLO's layout: a text file of relative boxes for each image."""

import os
import os.path as osp
import warnings
from pathlib import PurePath
from typing import Any, Dict, Iterator, List, Optional, Tuple

import mmdet.datasets
import yaml
from mmengine.fileio import get

from ..registry import DATASETS
from ..utils import printable
from .crowdhuman import header_or_skip
from .image_file import require_regular
from .loading import StrictClasses, read_text, repeated, require_file
from .voc import read_names

_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.gif')
_TOLERANCE = 1e-3  # of the image; rounding of the tools that write labels


def yolo_classes(path: str) -> List[str]:
    """Names of the classes, in the order of their numbers.

    ``path`` is ``data.yaml``, whose ``names`` is a list or a mapping from 0, 1, ...; or
    a text file with a name a line. ValueError if it holds no names, or one twice.
    """
    require_file(path, 'YOLODataset')
    if not path.endswith(('.yaml', '.yml')):
        names = read_names(path)
    else:
        try:
            content = yaml.safe_load(get(path).decode('utf-8-sig'))
        except Exception as error:  # of YAML, or of a value that it makes
            text = ' '.join(str(error).split())[:120]
            raise ValueError(f'{path}: not YAML that can be read ({text})') from error
        names = content.get('names') if isinstance(content, dict) else None
        if isinstance(names, dict):
            if sorted(map(str, names)) != sorted(map(str, range(len(names)))):
                raise ValueError(f'{path}: names must count classes from 0, got {list(names)[:5]}')
            names = [name for _, name in sorted(names.items(), key=lambda item: int(item[0]))]
        if not isinstance(names, list):
            raise ValueError(f'{path}: it has no names of classes: a list, or 0: name, 1: ...')
        if not all(isinstance(name, (str, int)) and str(name).strip() for name in names):
            raise ValueError(f'{path}: names must be text, got {names[:5]}')
        names = [str(name) for name in names]
    if not names or len(set(names)) < len(names):
        raise ValueError(f'{path}: names of classes are missing or stand twice: {names[:8]}')
    return names


def class_file(root: str) -> str:
    """``data.yaml`` of a data set, or ``classes.txt`` where that is missing."""
    paths = [osp.join(root, name) for name in ('data.yaml', 'classes.txt', 'data.yml')]
    return next((path for path in paths if osp.isfile(path)), paths[0])


def _said_in_yaml(root: str) -> str:
    """Where ``data.yaml`` says that the images are, for an error message."""
    try:
        content = yaml.safe_load(get(class_file(root)).decode('utf-8-sig'))
        said = [f'{key}: {content[key]}' for key in ('path', 'train', 'val') if key in content]
    except Exception:  # there is none, or of another kind
        return ''
    return f' (data.yaml says {printable(", ".join(said))[:150]})' if said else ''


@DATASETS.register_module()
class YOLODataset(StrictClasses, mmdet.datasets.BaseDetDataset):
    """Images and labels as Ultralytics' YOLO has them.

    ``ann_file`` is a folder of images, with subfolders, or a text file with the
    path of an image a line (relative to the file's folder). The label file of an
    image has ``labels`` for ``images`` in its path and ends in ``.txt``; an image
    without one has no objects. A line is a class's number and x, y of the centre,
    width and height, relative to the image; a polygon becomes the box around it.
    Sizes come from the images' headers.
    """

    def load_data_list(self) -> List[dict]:
        """Read all label files; ValueError names file and line of what is no label.

        Boxes without width or height and label files without an image are counted
        in warnings.
        """
        paths, folder = self._images()
        skip = self.on_bad_image == 'skip' and not self.test_mode
        data_list, with_labels, flat = [], set(), 0
        for path in paths:
            size = header_or_skip(path, self.ann_file, skip)
            if size is None:
                continue
            labels = label_file(path)
            rows = []
            if osp.exists(labels):
                with_labels.add(labels)
                rows = self._read_labels(labels)
            kept = [i for i in (_instance(row, *size) for row in rows) if i is not None]
            flat += len(rows) - len(kept)
            name = osp.relpath(path, folder).replace(os.sep, '/')
            info = dict(img_path=path, img_id=name, label_path=labels, instances=kept)
            data_list.append(dict(info, width=size[0], height=size[1]))
        self._tell(data_list, with_labels, flat)
        return data_list

    def _images(self) -> Tuple[List[str], str]:
        if osp.isdir(self.ann_file):
            found = [
                osp.join(folder, name)
                for folder, names in sorted(_walk(self.ann_file))
                for name in sorted(names)
                if name.lower().endswith(_SUFFIXES) and not name.startswith('.')
            ]
            if not found:
                raise FileNotFoundError(f'YOLODataset: {self.ann_file} has no images')
            return found, self.ann_file
        if '://' not in self.ann_file and not osp.exists(self.ann_file):
            raise FileNotFoundError(
                f'YOLODataset: {printable(osp.abspath(self.ann_file))}, a folder of images or a '
                'list of them, does not exist. Set ann_file of the data set, or OWN_ROOT, '
                f'OWN_TRAIN and OWN_VAL{_said_in_yaml(self.data_root or "")}'
            )
        require_file(self.ann_file, 'YOLODataset')
        folder = osp.dirname(self.ann_file)
        return [osp.join(folder, name) for name in read_names(self.ann_file)], folder

    def _read_labels(self, path: str) -> List[Tuple[int, List[float]]]:
        require_regular(path, 'label file')
        rows = []
        for number, line in enumerate(read_text(path).splitlines(), 1):
            if not line.strip():
                continue
            try:
                rows.append(_parse(line.split(), len(self.metainfo['classes'])))
            except ValueError as error:
                raise ValueError(f'{path}:{number}: {error}') from error
        return rows

    def _tell(self, data_list: List[dict], with_labels: set, flat: int) -> None:
        folders = sorted({osp.dirname(info['label_path']) for info in data_list})
        if not with_labels and not self.test_mode:
            raise FileNotFoundError(
                f'YOLODataset: no image of {self.ann_file} has a label file in {folders[:2]}'
            )
        without = [i['img_path'] for i in data_list if i['label_path'] not in with_labels]
        labels = [i['label_path'] for i in data_list if i['label_path'] in with_labels]
        orphans = []
        if not osp.isfile(self.ann_file):  # a list may leave images out
            for folder in filter(osp.isdir, folders):
                names = sorted(n for n in os.listdir(folder) if n.endswith('.txt'))
                orphans += [osp.join(folder, n) for n in names if n != 'classes.txt']
            orphans = [path for path in orphans if path not in with_labels]
        for found, what in (
            (without, 'image(s) have no label file and count as empty'),
            (orphans, 'label file(s) have no image and are left out'),
            (repeated(labels), 'label file(s) are those of several images each'),
        ):
            if found:
                told = f'{self.ann_file}: {len(found)} {what} ({found[0]})'
                warnings.warn(told, stacklevel=2)
        if flat:
            told = f'{self.ann_file}: {flat} box(es) without width or height are left out'
            warnings.warn(told, stacklevel=2)


def _walk(root: str) -> Iterator[Tuple[str, List[str]]]:
    """Folders and the names of their files, also through links, each folder once."""
    seen = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        if osp.realpath(folder) in seen:
            folders.clear()
            continue
        seen.add(osp.realpath(folder))
        yield folder, names


def label_file(image: str) -> str:
    """The label file of an image: the last ``images`` of its path becomes ``labels``."""
    parts = list(PurePath(image).parts)
    places = [i for i, part in enumerate(parts[:-1]) if part == 'images']
    if places:
        parts[places[-1]] = 'labels'
    return osp.splitext(osp.join(*parts))[0] + '.txt'


def _parse(fields: List[str], num_classes: int) -> Tuple[int, List[float]]:
    """Class and relative (x1, y1, x2, y2) of the fields of a line."""
    try:
        values = [float(field) for field in fields]
    except ValueError as error:
        raise ValueError(f'not a number: {printable(" ".join(fields))[:60]}') from error
    if len(values) != 5 and (len(values) < 7 or len(values) % 2 == 0):
        raise ValueError(
            'a label is a class and x, y, width, height, or a polygon of three points or more; '
            f'got {len(values)} values (of predictions, with a score?)'
        )
    label = values[0]
    if label != label or label not in range(num_classes):
        raise ValueError(f'class {printable(fields[0])} is not one of 0 to {num_classes - 1}')
    rest = values[1:]
    if not all(-_TOLERANCE <= v <= 1 + _TOLERANCE for v in rest):
        raise ValueError(
            f'values must be relative to the image, from 0 to 1, got {" ".join(fields[1:5])}'
        )
    if len(rest) == 4:
        x, y, w, h = rest
        return int(label), [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
    xs, ys = rest[::2], rest[1::2]
    return int(label), [min(xs), min(ys), max(xs), max(ys)]


def _instance(row: Tuple[int, List[float]], width: int, height: int) -> Optional[Dict[str, Any]]:
    label, (x1, y1, x2, y2) = row
    box = [x1 * width, y1 * height, x2 * width, y2 * height]
    if box[2] <= box[0] or box[3] <= box[1]:
        return None
    return dict(bbox=box, bbox_label=label, ignore_flag=0)
