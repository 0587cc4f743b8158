"""Data sets in the layout of Pascal VOC, with any classes."""

import os.path as osp
import warnings
import xml.etree.ElementTree as ET
from typing import Any, List, Optional

import mmdet.datasets
from mmengine.fileio import get

from ..registry import DATASETS
from .coco_file import is_number
from .image_file import header_size
from .loading import StrictClasses, read_text, repeated, require_file

_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')


def read_names(path: str, backend_args: Optional[dict] = None) -> List[str]:
    """Lines of a list of images, without blank ones; ValueError if one stands twice."""
    lines = map(str.strip, read_text(path, backend_args).splitlines())
    names = [line for line in lines if line]
    twice = repeated(names)
    if twice:
        raise ValueError(f'{path}: {twice[:3]} stand twice; list each image once')
    return names


def read_xml(path: str, backend_args: Optional[dict] = None) -> ET.Element:
    """The root of an XML file; ValueError if it is not XML."""
    require_file(path, 'VOCDataset')
    try:
        return ET.fromstring(get(path, backend_args=backend_args))
    except (ET.ParseError, ValueError, LookupError) as error:
        raise ValueError(f'{path}: not well-formed XML ({error})') from error


def name_of(item: ET.Element, path: str) -> str:
    """The class of an ``object`` of the XML file ``path``; ValueError if it has none."""
    name = (item.findtext('name') or '').strip()
    if not name:
        raise ValueError(f'{path}: not an annotation of VOC: an object without name')
    return name


@DATASETS.register_module()
class VOCDataset(StrictClasses, mmdet.datasets.VOCDataset):
    """MMDetection's data set, for any classes and image formats.

    Boxes without width or height are left out, with a warning.
    """

    def load_data_list(self) -> List[dict]:
        """Read the list of images and their XML files."""
        require_file(self.ann_file, type(self).__name__)
        self.cat2label = {name: i for i, name in enumerate(self.metainfo['classes'])}
        return [
            self.parse_data_info(
                dict(
                    img_id=name,
                    file_name=self._image_of(name),
                    xml_path=osp.join(self.sub_data_root, self.ann_subdir, f'{name}.xml'),
                )
            )
            for name in read_names(self.ann_file, self.backend_args)
        ]

    @property
    def annotation_files(self) -> List[str]:
        """The list of images and the XML file of each image in it."""
        return [self.ann_file] + [self.get_data_info(i)['xml_path'] for i in range(len(self))]

    def parse_data_info(self, img_info: dict) -> dict:
        """Parse the XML file of an image, given its img_id, file_name and xml_path."""
        path = img_info['xml_path']
        image_path = osp.join(self.sub_data_root, img_info['file_name'])
        root = read_xml(path, self.backend_args)
        self.refuse_other_classes(sorted({name_of(o, path) for o in root.iter('object')}), path)
        width, height = self._size_of(root, path, image_path)
        objects = [o for o in root.findall('object') if name_of(o, path) in self.cat2label]
        found = [self._instance(o, path) for o in objects]
        kept = [i for i in found if i['bbox'][2] > i['bbox'][0] and i['bbox'][3] > i['bbox'][1]]
        if len(kept) < len(found):
            warnings.warn(
                f'{osp.basename(path)}: left out {len(found) - len(kept)} box(es) without '
                'width or height',
                stacklevel=2,
            )
        place = dict(img_path=image_path, img_id=img_info['img_id'], xml_path=path)
        return dict(place, height=height, width=width, instances=kept)

    def _image_of(self, name: str) -> str:
        """``JPEGImages/<name>.jpg``, or the file with another suffix."""
        suffixes = (*_SUFFIXES, *map(str.upper, _SUFFIXES))
        files = [osp.join(self.img_subdir, name + suffix) for suffix in suffixes]
        found = (file for file in files if osp.isfile(osp.join(self.sub_data_root, file)))
        return next(found, files[0])

    def _size_of(self, root: ET.Element, path: str, image_path: str) -> tuple:
        """(width, height) of the XML file; of the image where some tools leave them out or 0."""
        size = root.find('size')
        if size is None:
            return header_size(image_path)
        found = tuple(int(_number(size, key, path)) for key in ('width', 'height'))
        return found if min(found) > 0 else header_size(image_path)

    def _instance(self, item: ET.Element, path: str) -> dict:
        name = name_of(item, path)
        ignored = (item.findtext('difficult') or '0').strip()
        if ignored not in ('0', '1'):
            raise ValueError(
                f'{path}: not an annotation of VOC: difficult must be 0 or 1, got {ignored!r}'
            )
        box = item.find('bndbox')
        if box is None:
            raise ValueError(f'{path}: not an annotation of VOC: object {name!r} has no bndbox')
        # VOC's pixels begin at 1
        x1, y1, x2, y2 = (
            int(_number(box, key, path)) - 1 for key in ('xmin', 'ymin', 'xmax', 'ymax')
        )
        if self.bbox_min_size is not None and min(x2 - x1, y2 - y1) < self.bbox_min_size:
            ignored = '1'
        return dict(
            bbox=[x1, y1, x2, y2], bbox_label=self.cat2label[name], ignore_flag=int(ignored)
        )


def _number(parent: ET.Element, key: str, path: str) -> float:
    text: Any = parent.findtext(key)
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = None
    if not is_number(value):
        raise ValueError(
            f'{path}: not an annotation of VOC: {key} of {parent.tag} must be a number, got '
            f'{text!r}'
        )
    return value
