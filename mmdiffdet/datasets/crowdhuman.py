"""CrowdHuman's own annotation format."""

import json
import os.path as osp
from typing import Any, Dict, List

import mmdet.datasets
from mmengine.fileio import get_text
from PIL import Image

from ..registry import DATASETS
from .loading import NeverEmpty, require_file

_ROTATED = (5, 6, 7, 8)  # values of the EXIF orientation that swap the sides


class _Filtered(mmdet.datasets.BaseDetDataset):
    """With ``filter_cfg``: ``filter_empty_gt`` and ``min_size``."""

    def filter_data(self) -> List[dict]:
        """What is left of the data for training."""
        cfg = self.filter_cfg or {}
        if self.test_mode:
            return self.data_list
        return [
            info
            for info in self.data_list
            if min(info['width'], info['height']) >= cfg.get('min_size', 0)
            and not (
                cfg.get('filter_empty_gt') and all(i['ignore_flag'] for i in info['instances'])
            )
        ]


@DATASETS.register_module()
class CrowdHumanDataset(NeverEmpty, _Filtered):
    """CrowdHuman (arXiv 1805.00123) from its ``.odgt`` file: full bodies.

    Persons marked to be ignored and masks are ``ignored_instances``. Sizes
    come from the images' headers; no file is written beside the data.
    """

    METAINFO = dict(classes=('person',), palette=[(220, 20, 60)])

    def load_data_list(self) -> List[dict]:
        """Read the annotation file, one JSON object a line.

        Raises:
            FileNotFoundError: If it or an image does not exist.
            ValueError: If a line is not JSON or lacks a key; names it.
        """
        require_file(self.ann_file, type(self).__name__)
        lines = get_text(self.ann_file, backend_args=self.backend_args)
        data_list = []
        for number, line in enumerate(lines.splitlines(), 1):
            if not line.strip():
                continue
            where = f'{self.ann_file}:{number}'
            try:
                data_list.append(self._parse(json.loads(line), where))
            except json.JSONDecodeError as error:
                raise ValueError(f'{where}: not JSON ({error})') from error
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(
                    f'{where}: not an annotation of CrowdHuman, '
                    f'{type(error).__name__} {error}; expected ID and '
                    'gtboxes with tag and fbox'
                ) from error
        return data_list

    def _parse(self, raw: Dict[str, Any], where: str) -> Dict[str, Any]:
        path = osp.join(self.data_prefix.get('img', ''), f'{raw["ID"]}.jpg')
        if not osp.isfile(path):
            raise FileNotFoundError(f'{where}: image {path} does not exist')
        with Image.open(path) as image:  # reads the header alone
            width, height = image.size
            if image.getexif().get(0x0112) in _ROTATED:
                width, height = height, width
        instances = []
        for box in raw['gtboxes']:
            x, y, w, h = box['fbox']
            ignored = (
                box['tag'] not in self.metainfo['classes']
                or box.get('extra', {}).get('ignore', 0) != 0
            )
            if w <= 0 or h <= 0:
                continue
            instances.append(
                dict(
                    bbox=[x, y, x + w, y + h],
                    bbox_label=-1 if ignored else self.metainfo['classes'].index(box['tag']),
                    ignore_flag=int(ignored),
                )
            )
        return dict(
            img_path=path, img_id=raw['ID'], height=height, width=width, instances=instances
        )

    def get_cat_ids(self, idx: int) -> List[int]:
        """Labels of an image's objects, without ignored ones."""
        return [
            instance['bbox_label']
            for instance in self.get_data_info(idx)['instances']
            if not instance['ignore_flag']
        ]
