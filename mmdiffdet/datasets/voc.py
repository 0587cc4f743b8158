"""VOC layout with any classes."""

import os.path as osp
import warnings
import xml.etree.ElementTree as ET
from typing import Any, List

import mmdet.datasets

from ..registry import DATASETS
from .loading import StrictClasses, require_file


@DATASETS.register_module()
class VOCDataset(StrictClasses, mmdet.datasets.VOCDataset):
    """MMDetection's, for any classes, without degenerate boxes."""

    def load_data_list(self) -> List[dict]:
        """Read the list of images and their XML files.

        Raises:
            FileNotFoundError: If the list does not exist.
        """
        require_file(self.ann_file, type(self).__name__)
        return super().load_data_list()

    @property
    def annotation_files(self) -> List[str]:
        """The list of images and the XML file of each image in it."""
        return [self.ann_file] + [self.get_data_info(i)['xml_path'] for i in range(len(self))]

    def parse_data_info(self, img_info: dict) -> dict:
        """Parse an XML file; boxes without area are left out, with a warning.

        Raises:
            FileNotFoundError: If the file is missing.
            ValueError: If it is no XML, lacks a value or has a class that is
                not in ``metainfo.classes``.
        """
        path = self._xml_path = img_info['xml_path']
        require_file(path, type(self).__name__)
        try:
            data_info = super().parse_data_info(img_info)
        except ET.ParseError as error:
            raise ValueError(f'{path}: not well-formed XML ({error})') from error
        except (AttributeError, TypeError, ValueError) as error:
            if path in str(error):
                raise
            raise ValueError(
                f'{path}: not an annotation of VOC ({error}); an object needs '
                'name and bndbox with xmin, ymin, xmax and ymax'
            ) from error
        kept = [
            instance
            for instance in data_info['instances']
            if instance['bbox'][2] > instance['bbox'][0]
            and instance['bbox'][3] > instance['bbox'][1]
        ]
        dropped = len(data_info['instances']) - len(kept)
        if dropped:
            warnings.warn(
                f'{osp.basename(path)}: left out {dropped} box(es) without width or height',
                stacklevel=2,
            )
        data_info['instances'] = kept
        return data_info

    def _parse_instance_info(self, raw_ann_info: Any, minus_one: bool = True) -> List[dict]:
        names = sorted({o.findtext('name') for o in raw_ann_info.findall('object')})
        self.refuse_other_classes(names, self._xml_path)
        return super()._parse_instance_info(raw_ann_info, minus_one)
