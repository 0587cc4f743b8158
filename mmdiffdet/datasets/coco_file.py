"""COCO's annotation format, read and checked in one place.

Data sets, metrics and the tools see the same content: what is written in another
way (an id as text, no area) is brought into COCO's own form, and what cannot be is
an error that names the entry.
"""

import contextlib
import io
import json
import warnings
from typing import Any, Callable, Dict, Hashable, List, Optional

from mmdet.datasets.api_wrappers import COCO

from .image_file import require_regular
from .loading import read_text, repeated

_LIMIT = 1e9  # pixels; beyond that a number is no coordinate
_LARGEST = 1e10  # square pixels; beyond that COCO's evaluation leaves an object out


def read_json(path: str, backend_args: Optional[dict] = None) -> Any:
    """Content of a JSON file; ValueError with file and line if it is not JSON in UTF-8."""
    require_regular(path, 'annotation file')
    text = read_text(path, backend_args)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f'{path}:{error.lineno}: not JSON ({error.msg})') from error
    except (ValueError, RecursionError) as error:  # a number or a nesting without end
        raise ValueError(f'{path}: not JSON that can be read ({error})') from error


def read_coco(path: str, annotated: bool = True, backend_args: Optional[dict] = None) -> dict:
    """Read an annotation file in COCO format: images, annotations and categories.

    Ids that are the same number in another way of writing (``"7"``, ``7.0``) become
    that number; ids of annotations, which nothing refers to, are counted anew if
    they are missing, repeated or below 1 (pycocotools takes an object 0 for none);
    a missing ``area`` is width times height, a missing ``iscrowd`` 0.

    Args:
        path (str): The file, or an address for ``backend_args``.
        annotated (bool): Whether it must have annotations; images that are only
            predicted on need none. Defaults to True.
        backend_args (dict, optional): See ``mmengine.fileio.get``.

    Raises:
        ValueError: If it is not in COCO format; names file, entry and key.
    """
    content = read_json(path, backend_args)
    if not isinstance(content, dict):
        raise ValueError(
            f'{path}: not in COCO format: it is a {type(content).__name__}, but should be an '
            'object with images, annotations and categories'
        )
    if not annotated:
        content.setdefault('annotations', [])
    for key in ('images', 'annotations', 'categories'):
        value = content.get(key)
        if key not in content or not isinstance(value, list):
            raise ValueError(
                f'{path}: not in COCO format: '
                + (f'{key} is not a list' if key in content else f'it has no {key}')
                + '; it needs images, annotations and categories'
            )
    _Reader(path).check(content)
    return content


def api_of(content: dict) -> COCO:
    """Pycocotools' interface to content that :func:`read_coco` returned."""
    api = COCO()
    api.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):
        api.createIndex()
    api.img_ann_map, api.cat_img_map = api.imgToAnns, api.catToImgs
    return api


def same_id(value: Any) -> Hashable:
    """An id, one for all ways of writing it: ``7``, ``7.0`` and ``"7"`` are 7.

    ValueError if it is neither a number nor text.
    """
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer():
        return int(value)
    if type(value) is str and value.strip():
        text = value.strip()
        short = len(text) < 40 and text.lstrip('-').isascii() and text.lstrip('-').isdigit()
        return int(text) if short and str(int(text)) == text else value
    raise ValueError(f'{json.dumps(value)[:60]} is no id: it must be a whole number or text')


class _Reader:
    """Checks the entries of a file and brings them into COCO's form."""

    def __init__(self, path: str) -> None:
        self.path = path

    def check(self, content: dict) -> None:
        self._entries(content['categories'], 'category', self._category)
        self._entries(content['images'], 'image', self._image)
        self._entries(content['annotations'], 'annotation', self._annotation)
        self._unique(content['images'], 'id', 'image ids', 'give each image an id of its own')
        one = 'a class has one category; merge or rename them'
        self._unique(content['categories'], 'id', 'category ids', one)
        self._unique(content['categories'], 'name', 'category names', one)
        self._number(content['annotations'])

    def _entries(self, entries: List[Any], kind: str, check: Callable[[dict], None]) -> None:
        for number, entry in enumerate(entries):
            try:
                if type(entry) is not dict:
                    raise ValueError(f'must be an object, got {json.dumps(entry)[:60]}')
                check(entry)
            except ValueError as error:
                name = f'{kind} {number}'
                if type(entry) is dict and 'id' in entry:
                    name = f'{kind} id {json.dumps(entry["id"])[:40]}'
                if type(entry) is dict and kind == 'annotation' and 'image_id' in entry:
                    name += f' of image id {json.dumps(entry["image_id"])[:40]}'
                raise ValueError(f'{self.path}: {name}: {error}') from error

    def _category(self, entry: dict) -> None:
        entry['id'] = same_id(_of(entry, 'id'))
        _check_text(entry, 'name')

    def _image(self, entry: dict) -> None:
        entry['id'] = same_id(_of(entry, 'id'))
        if 'file_name' in entry or type(entry.get('coco_url')) is not str:  # which LVIS has
            _check_text(entry, 'file_name')
        for key in ('width', 'height'):
            value = _of(entry, key)
            if not is_number(value) or value < 1 or value != int(value):
                raise ValueError(f'{key} must be pixels, got {json.dumps(value)[:60]}')
            entry[key] = int(value)

    def _annotation(self, entry: dict) -> None:
        entry['image_id'] = same_id(_of(entry, 'image_id'))
        entry['category_id'] = same_id(_of(entry, 'category_id'))
        box = _of(entry, 'bbox')
        if type(box) is not list or len(box) != 4 or not all(map(is_number, box)):
            raise ValueError(
                'bbox must be four numbers [x, y, width, height] that are finite, got '
                f'{json.dumps(box)[:80]}'
            )
        area = entry.get('area')
        if area is None:
            entry['area'] = min(max(box[2], 0) * max(box[3], 0), _LARGEST)
        elif type(area) not in (int, float) or not 0 <= area <= _LARGEST:
            raise ValueError(f'area must be a number of square pixels, got {json.dumps(area)[:60]}')
        for key in ('iscrowd', 'ignore'):
            value = entry.get(key)
            if value not in (None, 0, 1):
                raise ValueError(f'{key} must be 0 or 1, got {json.dumps(value)[:60]}')
            entry[key] = int(value or 0)

    def _unique(self, entries: List[dict], key: str, what: str, way_out: str) -> None:
        twice = repeated(entry[key] for entry in entries)
        if twice:
            raise ValueError(f'{self.path}: {what} {twice[:3]} stand twice; {way_out}')

    def _number(self, annotations: List[dict]) -> None:
        """Number the annotations unless pycocotools can use the ids that are there."""
        ids = [annotation.get('id') for annotation in annotations]
        fine = all(type(i) is int and i > 0 for i in ids)
        distinct = len(set(ids if fine else map(json.dumps, ids)))
        if fine and distinct == len(ids):
            return
        if distinct < len(ids) - ids.count(None) + (None in ids):
            warnings.warn(
                f'{self.path}: {len(ids) - distinct} annotation ids stand twice; they are '
                'counted anew (are some of the objects there twice?)',
                stacklevel=2,
            )
        for number, annotation in enumerate(annotations, 1):
            annotation['id'] = number


def _check_text(entry: Dict[str, Any], key: str) -> None:
    value = _of(entry, key)
    if type(value) is not str or not value.strip():
        raise ValueError(f'{key} must be text, got {json.dumps(value)[:60]}')


def _of(entry: Dict[str, Any], key: str) -> Any:
    if key not in entry:
        raise ValueError(f'{key} is missing')
    return entry[key]


def is_number(value: Any) -> bool:
    """Whether a value is a finite number that could be a coordinate in pixels."""
    return type(value) in (int, float) and -_LIMIT < value < _LIMIT
