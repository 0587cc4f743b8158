"""LVIS v1 (arXiv 1908.03195)."""

from collections import defaultdict
from typing import Any, List

import mmdet.datasets

from ..registry import DATASETS
from .coco import warn_of_losses
from .coco_file import read_coco
from .loading import CheckedDataset, require_file

_SERVER = 'http://images.cocodataset.org/'


def read_lvis(path: str, backend_args: dict = None) -> dict:
    """Read an annotation file of LVIS; ValueError at an entry that is not in its format.

    The checks are those of :func:`read_coco`, and those of LVIS's own keys.
    """
    content = read_coco(path, backend_args=backend_args)
    ids = {category['id'] for category in content['categories']}
    for kind in ('categories', 'images'):
        for entry in content[kind]:
            if not isinstance(entry['id'], int):
                raise ValueError(f'{path}: {kind}: id must be a number, got {entry["id"]!r}')
    for category in content['categories']:
        if category.get('frequency') not in ('r', 'c', 'f'):
            raise ValueError(
                f'{path}: category id {category["id"]}: frequency must be r, c or f, got '
                f'{category.get("frequency")!r}'
            )
    for image in content['images']:
        for key in ('neg_category_ids', 'not_exhaustive_category_ids'):
            value = image.get(key)
            if type(value) is not list or not all(isinstance(i, int) and i in ids for i in value):
                raise ValueError(
                    f'{path}: image id {image["id"]}: {key} must be a list of ids of categories'
                )
        if 'coco_url' in image:
            if not isinstance(image['coco_url'], str):
                raise ValueError(f'{path}: image id {image["id"]}: coco_url must be text')
            # the split stands in the address
            image['file_name'] = image['coco_url'].replace(_SERVER, '')
    return content


def lvis_api(content: dict) -> Any:
    """The interface of the package ``lvis`` to content that :func:`read_lvis` returned."""
    try:
        import lvis
    except ImportError as error:
        raise ImportError('LVIS needs its package: pip install lvis') from error
    api = lvis.LVIS.__new__(lvis.LVIS)
    api.logger = lvis.lvis.logging.getLogger('lvis')
    api.dataset = content
    api._create_index()
    return api


@DATASETS.register_module()
class LVISV1Dataset(CheckedDataset, mmdet.datasets.LVISV1Dataset):
    """MMDetection's data set, with labels in the order of the categories' ids."""

    def load_data_list(self) -> List[dict]:
        """Read the annotation file; ValueError unless its classes are ``metainfo.classes``."""
        require_file(self.ann_file, type(self).__name__)
        content = read_lvis(self.ann_file, self.backend_args)
        categories = sorted(content['categories'], key=lambda category: category['id'])
        classes = list(self.metainfo['classes'])
        if len(categories) != len(classes):
            raise ValueError(
                f'{self.ann_file} has {len(categories)} categories, metainfo'
                f'.classes {len(classes)}: labels are '
                'positions in both, so they must be the same'
            )
        place = {name: i for i, name in enumerate(classes)}
        for i, category in enumerate(categories):
            if place.get(category['name'], i) != i:
                raise ValueError(
                    f'{self.ann_file}: category id {category["id"]}, {category["name"]!r}, is '
                    f'number {i} by its id and number {place[category["name"]]} of '
                    'metainfo.classes'
                )
        self.cat_ids = [category['id'] for category in categories]
        self.cat2label = {c: i for i, c in enumerate(self.cat_ids)}
        self.cat_img_map = defaultdict(list)
        by_image = defaultdict(list)
        for annotation in content['annotations']:
            self.cat_img_map[annotation['category_id']].append(annotation['image_id'])
            by_image[annotation['image_id']].append(annotation)
        raw = [(by_image[i['id']], dict(i, img_id=i['id'])) for i in content['images']]
        data_list = [
            self.parse_data_info(dict(raw_ann_info=objects, raw_img_info=image))
            for objects, image in raw
        ]
        warn_of_losses(self.ann_file, content, self.cat_ids, data_list)
        return data_list
