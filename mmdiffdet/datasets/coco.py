"""Data sets in COCO format, COCO and Objects365, whose classes must be those of the config."""

import os.path as osp
import warnings
from typing import Hashable, List, Sequence

import mmdet.datasets
from mmdet.datasets.objects365 import objv2_ignore_list

from ..registry import DATASETS
from .coco_file import api_of, read_coco
from .loading import StrictClasses, require_file


@DATASETS.register_module()
class CocoDataset(StrictClasses, mmdet.datasets.CocoDataset):
    """MMDetection's data set, with labels in the order of ``metainfo.classes``."""

    def load_data_list(self) -> List[dict]:
        """Read the annotation file, see :func:`read_coco`.

        Annotations that are left out (of images or categories that are not listed,
        without area, below a pixel, outside of the image) are counted in a warning.
        In testing there may be no annotations at all. ValueError if the file's
        categories are not those of ``metainfo.classes``.
        """
        require_file(self.ann_file, type(self).__name__)
        content = read_coco(self.ann_file, not self.test_mode, self.backend_args)
        for image in content['images']:
            if 'file_name' not in image:
                raise ValueError(f'{self.ann_file}: image id {image["id"]}: file_name is missing')
        found = [category['name'] for category in content['categories']]
        classes = list(self.metainfo['classes'])
        absent = [name for name in classes if name not in found]
        if absent:
            raise ValueError(
                f'{self.ann_file} has no categories {absent} of '
                f'metainfo.classes; its categories are {found}. Rename them '
                'in the file, or set metainfo.classes of all data sets (with '
                "'from_file' they are those of the training annotations)"
            )
        self.refuse_other_classes(found, self.ann_file)
        api = api_of(content)
        self.COCOAPI = lambda path: api  # large files are read once
        data_list = super().load_data_list()
        del self.COCOAPI
        # the parent numbers classes in the file's order
        to_class = [classes.index(name) for name in found if name in classes]
        for data_info in data_list:
            for instance in data_info['instances']:
                instance['bbox_label'] = to_class[instance['bbox_label']]
        self.cat_ids = [cat_id for _, cat_id in sorted(zip(to_class, self.cat_ids))]
        self.cat2label = {c: i for i, c in enumerate(self.cat_ids)}
        warn_of_losses(self.ann_file, content, self.cat_ids, data_list)
        return data_list


@DATASETS.register_module()
class Objects365V1Dataset(CocoDataset):
    """Version 1, 365 classes; labels by name, whatever a file's order."""

    METAINFO = mmdet.datasets.Objects365V1Dataset.METAINFO


@DATASETS.register_module()
class Objects365V2Dataset(CocoDataset):
    """Version 2, 365 classes, without the images that it does not ship."""

    METAINFO = mmdet.datasets.Objects365V2Dataset.METAINFO

    def load_data_list(self) -> List[dict]:
        """Read the annotation file, whose paths begin with folders that users do not have.

        Images lie in ``patch<n>`` below ``data_prefix.img``.
        """
        kept = []
        for info in super().load_data_list():
            folder, name = osp.split(info['img_path'])
            patch = osp.join(osp.basename(folder), name)
            if patch not in objv2_ignore_list:
                info['img_path'] = osp.join(self.data_prefix.get('img', ''), patch)
                kept.append(info)
        return kept


def warn_of_losses(
    path: str, content: dict, cat_ids: Sequence[Hashable], data_list: List[dict]
) -> None:
    """Count each kind of annotation that was left out, in a warning of its own.

    ``content`` is that of the annotation file ``path`` (see :func:`read_coco`),
    ``cat_ids`` are the categories of ``metainfo.classes``, and ``data_list`` is what
    the data set made of them.
    """
    images = {image['id'] for image in content['images']}
    listed = {category['id'] for category in content['categories']}
    wanted = set(cat_ids)
    annotations = content['annotations']
    orphans = [a for a in annotations if a['category_id'] not in listed]
    annotations = [a for a in annotations if a['category_id'] in wanted]
    marked = [a for a in annotations if a['ignore']]
    absent = [a for a in annotations if a['image_id'] not in images and not a['ignore']]
    kept = sum(len(info['instances']) for info in data_list)
    lost = len(annotations) - len(marked) - len(absent) - kept
    unknown = list(dict.fromkeys(a['category_id'] for a in orphans))[:3]
    for left_out, what in (
        (orphans, f'annotation(s) of categories {unknown} that are not listed'),
        (absent, 'annotation(s) of images that are not listed'),
        (marked, 'annotation(s) marked "ignore"'),
    ):
        if left_out:
            ids = [annotation['id'] for annotation in left_out[:3]]
            warnings.warn(f'{path}: left out {len(left_out)} {what}, ids {ids}', stacklevel=2)
    if lost > 0:
        what = 'box(es) without area, below a pixel or outside of their image'
        warnings.warn(f'{path}: left out {lost} {what}', stacklevel=2)
