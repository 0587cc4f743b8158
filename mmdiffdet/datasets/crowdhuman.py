"""CrowdHuman's own annotation format."""

import json
import os.path as osp
import warnings
from typing import Any, Dict, List, Optional

import mmdet.datasets

from ..registry import DATASETS
from .coco_file import is_number
from .image_file import BadImage, count_image, header_size
from .loading import CheckedDataset, read_text, require_file


def read_odgt(path: str, backend_args: Optional[dict] = None) -> List[dict]:
    """Records of an ``.odgt`` file, which has one JSON object a line.

    A record has ID, gtboxes (with tag, fbox and extra) and ``line``, its place in
    the file. ValueError, which names the line, if one is not JSON, lacks a key or
    repeats an ID.
    """
    records, seen = [], {}
    for number, line in enumerate(read_text(path, backend_args).splitlines(), 1):
        if not line.strip():
            continue
        where = f'{path}:{number}'
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f'{where}: not JSON ({error})') from error
        try:
            _check(record)
        except ValueError as error:
            raise ValueError(
                f'{where}: not an annotation of CrowdHuman, {error}; expected ID and '
                'gtboxes with tag and fbox'
            ) from error
        if record['ID'] in seen:
            raise ValueError(
                f'{where}: ID {record["ID"]!r} stands in line {seen[record["ID"]]} too'
            )
        seen[record['ID']] = number
        records.append(dict(record, line=number))
    return records


def _check(record: Any) -> None:
    if not isinstance(record, dict):
        raise ValueError('not an object')
    if not isinstance(record.get('ID'), str) or not record['ID']:
        raise ValueError(f"'ID' must be text, got {record.get('ID')!r}")
    if not isinstance(record.get('gtboxes'), list):
        raise ValueError(f"'gtboxes' must be a list, got {str(record.get('gtboxes'))[:40]!r}")
    for box in record['gtboxes']:
        if not isinstance(box, dict) or not isinstance(box.get('tag'), str):
            raise ValueError('a box without tag')
        for key in ('fbox', 'vbox', 'hbox'):
            value = box.get(key)
            if key not in box and key != 'fbox':
                continue
            if not isinstance(value, list) or len(value) != 4 or not all(map(is_number, value)):
                raise ValueError(f'{key} must be four finite numbers, got {str(value)[:60]!r}')
        for key in ('extra', 'head_attr'):
            extra = box.get(key, {})
            if not isinstance(extra, dict) or extra.get('ignore', 0) not in (0, 1):
                raise ValueError(f"{key} must be an object, its 'ignore' 0 or 1")


class _Filtered(mmdet.datasets.BaseDetDataset):
    """``filter_cfg`` as of MMDetection's COCO data set: ``filter_empty_gt``, ``min_size``."""

    def filter_data(self) -> List[dict]:
        """The images to train on, or all to test with."""
        cfg = self.filter_cfg or {}
        if self.test_mode:
            return self.data_list
        kept = self.data_list
        if cfg.get('filter_empty_gt'):
            kept = [i for i in kept if not all(box['ignore_flag'] for box in i['instances'])]
        return [i for i in kept if min(i['width'], i['height']) >= cfg.get('min_size', 0)]


@DATASETS.register_module()
class CrowdHumanDataset(CheckedDataset, _Filtered):
    """CrowdHuman (arXiv 1805.00123) from its ``.odgt`` file: boxes of full bodies.

    Persons marked to be ignored and masks are ``ignored_instances``. Sizes come
    from the images' headers.
    """

    METAINFO = dict(classes=('person',), palette=[(220, 20, 60)])
    BOXES_END_INSIDE = False  # a full body reaches out of its image

    def load_data_list(self) -> List[dict]:
        """Read the annotation file, see :func:`read_odgt`.

        Boxes without width or height are left out and counted in a warning. With
        ``on_bad_image='skip'`` images without a header are left out of training.
        """
        require_file(self.ann_file, type(self).__name__)
        data_list, dropped, example = [], 0, ''
        for record in read_odgt(self.ann_file, self.backend_args):
            where = f'{self.ann_file}:{record["line"]}'
            info = self._parse(record, where)
            if info is None:
                continue
            flat = len(record['gtboxes']) - len(info['instances'])
            if flat:
                dropped, example = dropped + flat, example or where
            data_list.append(info)
        if dropped:
            warnings.warn(
                f'{self.ann_file}: left out {dropped} box(es) without width or height, the '
                f'first ones at {example}',
                stacklevel=2,
            )
        return data_list

    def _parse(self, record: Dict[str, Any], where: str) -> Optional[Dict[str, Any]]:
        path = osp.join(self.data_prefix.get('img', ''), f'{record["ID"]}.jpg')
        size = header_or_skip(path, where, self.on_bad_image == 'skip' and not self.test_mode)
        if size is None:
            return None
        instances, classes = [], self.metainfo['classes']
        for box in record['gtboxes']:
            x, y, w, h = box['fbox']
            if w <= 0 or h <= 0:
                continue
            ignored = box['tag'] not in classes or box.get('extra', {}).get('ignore', 0) != 0
            label = -1 if ignored else classes.index(box['tag'])
            instances.append(
                dict(bbox=[x, y, x + w, y + h], bbox_label=label, ignore_flag=int(ignored))
            )
        return dict(
            img_path=path, img_id=record['ID'], height=size[1], width=size[0], instances=instances
        )

    def get_cat_ids(self, idx: int) -> List[int]:
        """Labels of an image's objects, without ignored ones."""
        instances = self.get_data_info(idx)['instances']
        return [i['bbox_label'] for i in instances if not i['ignore_flag']]


def header_or_skip(path: str, where: str, skip: bool) -> Optional[tuple]:
    """(width, height) of an image; with ``skip``, None if it cannot be read.

    Otherwise FileNotFoundError or BadImage tell of it, and ``where`` it is named.
    """
    try:
        return header_size(path)
    except (BadImage, FileNotFoundError) as error:
        if skip:
            count_image('bad image, left out', path, str(error))
            return None
        raise type(error)(f'{where}: {error}') from error
