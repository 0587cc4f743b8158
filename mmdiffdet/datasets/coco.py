"""COCO format with strict classes."""
from typing import Any, List

import mmdet.datasets
from mmengine.fileio import get_local_path

from ..registry import DATASETS
from .loading import require_file


@DATASETS.register_module()
class CocoDataset(mmdet.datasets.CocoDataset):
    """MMDetection's, with labels in the order of ``metainfo.classes``.

    Args:
        ignore_other_categories (bool): Whether the file may have categories
            that are not in ``metainfo.classes``; their objects are left out.
            Defaults to False: then that is an error.
    """

    def __init__(self,
                 *args: Any,
                 ignore_other_categories: bool = False,
                 **kwargs: Any) -> None:
        self.ignore_other_categories = ignore_other_categories
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> List[dict]:
        """Read the annotation file.

        Raises:
            FileNotFoundError: If it does not exist.
            ValueError: If its categories are not those of
                ``metainfo.classes``.
        """
        require_file(self.ann_file, type(self).__name__)
        with get_local_path(
                self.ann_file, backend_args=self.backend_args) as local_path:
            categories = self.COCOAPI(local_path).dataset['categories']
        found = [category['name'] for category in categories]
        classes = list(self.metainfo['classes'])
        self._check_classes(found, classes)
        data_list = super().load_data_list()
        # the parent counts classes in the file's order
        in_file = [name for name in found if name in classes]
        to_class = [classes.index(name) for name in in_file]
        for data_info in data_list:
            for instance in data_info['instances']:
                instance['bbox_label'] = to_class[instance['bbox_label']]
        order = sorted(range(len(to_class)), key=to_class.__getitem__)
        self.cat_ids = [self.cat_ids[i] for i in order]
        self.cat2label = {c: i for i, c in enumerate(self.cat_ids)}
        return data_list

    def _check_classes(self, found: List[str], classes: List[str]) -> None:
        absent = [name for name in classes if name not in found]
        if absent:
            raise ValueError(
                f'{self.ann_file} has no categories {absent} of '
                f'metainfo.classes; its categories are {found}. Set metainfo='
                f'dict(classes={tuple(found)}) of the data set')
        other = [name for name in found if name not in classes]
        if other and not self.ignore_other_categories:
            raise ValueError(
                f'{self.ann_file} has categories {other} that are missing '
                f'from metainfo.classes {tuple(classes)}. Add them (and set '
                'num_classes), or set ignore_other_categories=True of the '
                'data set to leave their objects out')
