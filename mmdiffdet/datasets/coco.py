"""COCO format with strict classes."""
from typing import List

import mmdet.datasets
from mmengine.fileio import get_local_path

from ..registry import DATASETS
from .loading import StrictClasses, require_file


@DATASETS.register_module()
class CocoDataset(StrictClasses, mmdet.datasets.CocoDataset):
    """MMDetection's, with labels in the order of ``metainfo.classes``."""

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
            api = self.COCOAPI(local_path)
        found = [category['name'] for category in api.dataset['categories']]
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
        return data_list

    def _check_classes(self, found: List[str], classes: List[str]) -> None:
        absent = [name for name in classes if name not in found]
        if absent:
            raise ValueError(
                f'{self.ann_file} has no categories {absent} of '
                f'metainfo.classes; its categories are {found}. Set metainfo='
                f'dict(classes={tuple(found)}) of the data set')
        self.refuse_other_classes(found, self.ann_file)
