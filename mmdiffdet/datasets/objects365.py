"""Objects365 v1 and v2, in COCO format."""

import os.path as osp
from typing import List

import mmdet.datasets
from mmdet.datasets.objects365 import objv2_ignore_list

from ..registry import DATASETS
from .coco import CocoDataset


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
