"""COCO format with strict classes."""

import json
import warnings
from collections import Counter
from contextlib import contextmanager
from typing import Any, Iterator, List

import mmdet.datasets
import numpy as np
from mmengine.fileio import get_local_path

from ..registry import DATASETS
from .loading import StrictClasses, require_file


@contextmanager
def tell_of_bad_coco(path: str) -> Iterator[None]:
    """Name the file, and the line if it is not JSON, in a ValueError."""
    try:
        yield
    except json.JSONDecodeError as error:
        raise ValueError(f'{path}:{error.lineno}: not JSON ({error.msg})') from error
    except (KeyError, TypeError, AssertionError, UnicodeDecodeError) as error:
        raise ValueError(
            f'{path}: not in COCO format ({type(error).__name__} {error}); it '
            'needs images, annotations and categories'
        ) from error


@DATASETS.register_module()
class CocoDataset(StrictClasses, mmdet.datasets.CocoDataset):
    """MMDetection's, with labels in the order of ``metainfo.classes``."""

    def load_data_list(self) -> List[dict]:
        """Read the annotation file.

        Annotations of images or categories that are not listed and boxes that
        the parent leaves out (without area, below a pixel, outside of the
        image) are counted in a warning.

        Raises:
            FileNotFoundError: If it does not exist.
            ValueError: If it is not COCO's JSON, its categories are not those
                of ``metainfo.classes``, or an image id stands twice.
        """
        require_file(self.ann_file, type(self).__name__)
        api = self._read()
        with tell_of_bad_coco(self.ann_file):
            found = [c['name'] for c in api.dataset['categories']]
            ids = [image['id'] for image in api.dataset['images']]
        if len(set(ids)) < len(ids):
            twice = sorted(i for i, n in Counter(ids).items() if n > 1)
            raise ValueError(
                f'{self.ann_file}: image ids {twice[:3]} stand '
                'twice; give each image an id of its own'
            )
        classes = list(self.metainfo['classes'])
        self._check_classes(found, classes)
        self.COCOAPI = lambda path: api  # large files are read once
        data_list = super().load_data_list()
        del self.COCOAPI
        # the parent counts classes in the file's order
        in_file = [name for name in found if name in classes]
        to_class = [classes.index(name) for name in in_file]
        for data_info in data_list:
            for instance in data_info['instances']:
                instance['bbox_label'] = to_class[instance['bbox_label']]
        order = sorted(range(len(to_class)), key=to_class.__getitem__)
        self.cat_ids = [self.cat_ids[i] for i in order]
        self.cat2label = {c: i for i, c in enumerate(self.cat_ids)}
        self._warn_of_losses(api, data_list)
        return data_list

    def parse_data_info(self, raw_data_info: dict) -> dict:
        """Parse an image and its annotations.

        Raises:
            ValueError: If a key is missing or a box is not four numbers.
        """
        raw = raw_data_info['raw_img_info']
        try:
            data_info = super().parse_data_info(raw_data_info)
            boxes = [i['bbox'] for i in data_info['instances']]
            if not np.isfinite(boxes).all():
                raise ValueError('a box that is not finite')
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f'{self.ann_file}: image id {raw["img_id"]}: '
                f'{type(error).__name__} {error}; an image needs id, '
                'file_name, width and height, each of its annotations bbox '
                '[x, y, width, height], area, iscrowd and category_id'
            ) from error
        return data_info

    def _read(self) -> Any:
        """COCO's interface to the file."""
        with get_local_path(self.ann_file, backend_args=self.backend_args) as local_path:
            with tell_of_bad_coco(self.ann_file):
                return self.COCOAPI(local_path)

    def _warn_of_losses(self, api: Any, data_list: List[dict]) -> None:
        wanted = set(self.cat_ids)
        orphans = [
            a for a in api.dataset.get('annotations', ()) if a['category_id'] not in api.cats
        ]
        unknown = sorted({a['category_id'] for a in orphans})
        annotations = [
            a
            for a in api.dataset.get('annotations', ())
            if a['category_id'] in wanted and not a.get('ignore')
        ]
        absent = [a['id'] for a in annotations if a['image_id'] not in api.imgs]
        kept = sum(len(info['instances']) for info in data_list)
        lost = len(annotations) - len(absent) - kept
        for count, what in (
            (
                len(orphans),
                f'annotation(s) of categories {unknown[:3]} that '
                f'are not listed, ids {[a["id"] for a in orphans[:3]]}',
            ),
            (len(absent), f'annotation(s) of images that are not listed, ids {absent[:3]}'),
            (lost, 'box(es) without area, below a pixel or outside of their image'),
        ):
            if count > 0:
                warnings.warn(f'{self.ann_file}: left out {count} {what}', stacklevel=2)

    def _check_classes(self, found: List[str], classes: List[str]) -> None:
        absent = [name for name in classes if name not in found]
        if absent:
            raise ValueError(
                f'{self.ann_file} has no categories {absent} of '
                f'metainfo.classes; its categories are {found}. Rename them '
                'in the file, or set metainfo.classes of all data sets (with '
                "'from_file' they are those of the training annotations)"
            )
        self.refuse_other_classes(found, self.ann_file)
