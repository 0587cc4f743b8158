"""COCO format with strict classes."""

import warnings
from typing import Any, Hashable, List, Sequence

import mmdet.datasets

from ..registry import DATASETS
from .coco_file import api_of, read_coco
from .loading import StrictClasses, require_file


@DATASETS.register_module()
class CocoDataset(StrictClasses, mmdet.datasets.CocoDataset):
    """MMDetection's, with labels in the order of ``metainfo.classes``."""

    def load_data_list(self) -> List[dict]:
        """Read the annotation file; see :func:`read_coco`.

        Annotations of images or categories that are not listed and boxes that
        the parent leaves out (without area, below a pixel, outside of the
        image) are counted in a warning. In testing there may be no annotations
        at all.

        Raises:
            FileNotFoundError: If it does not exist.
            ValueError: If it is not in COCO format, or its categories are not
                those of ``metainfo.classes``.
        """
        require_file(self.ann_file, type(self).__name__)
        content = read_coco(self.ann_file, not self.test_mode, self.backend_args)
        for image in content['images']:
            if 'file_name' not in image:
                raise ValueError(f'{self.ann_file}: image id {image["id"]}: file_name is missing')
        found = [category['name'] for category in content['categories']]
        classes = list(self.metainfo['classes'])
        self._check_classes(found, classes)
        api = api_of(content)
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
        warn_of_losses(self.ann_file, content, self.cat_ids, data_list)
        return data_list

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


def warn_of_losses(
    path: str, content: dict, cat_ids: Sequence[Hashable], data_list: List[dict]
) -> None:
    """Count in a warning each kind of annotation that was left out.

    Args:
        path (str): The annotation file.
        content (dict): Of it, see :func:`read_coco`.
        cat_ids (Sequence): Of the classes that are wanted.
        data_list (list[dict]): What was made of it.
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
    unknown = list(dict.fromkeys(a['category_id'] for a in orphans))
    for count, what in (
        (
            len(orphans),
            f'annotation(s) of categories {unknown[:3]} that are not listed, ids {_ids(orphans)}',
        ),
        (len(absent), f'annotation(s) of images that are not listed, ids {_ids(absent)}'),
        (len(marked), f'annotation(s) marked "ignore", ids {_ids(marked)}'),
        (lost, 'box(es) without area, below a pixel or outside of their image'),
    ):
        if count > 0:
            warnings.warn(f'{path}: left out {count} {what}', stacklevel=2)


def _ids(annotations: List[Any]) -> List[Hashable]:
    return [annotation['id'] for annotation in annotations[:3]]
