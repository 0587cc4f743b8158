"""VOC layout with any classes."""

import os.path as osp
import warnings
import xml.etree.ElementTree as ET
from typing import Any, List, Optional

import mmdet.datasets
from mmengine.fileio import get

from ..registry import DATASETS
from .coco_file import is_number
from .image_file import header_size
from .loading import StrictClasses, require_file

_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')


def read_names(path: str, backend_args: Optional[dict] = None) -> List[str]:
    """Lines of a list of images, without blank ones.

    Raises:
        ValueError: If it is not text in UTF-8, or a name stands twice.
    """
    try:
        text = get(path, backend_args=backend_args).decode('utf-8-sig')
    except UnicodeDecodeError as error:
        raise ValueError(f'{path}: not text in UTF-8 ({error.reason})') from error
    names = [line.strip() for line in text.splitlines() if line.strip()]
    if len(set(names)) < len(names):
        seen: set = set()
        twice = [name for name in names if name in seen or seen.add(name)]
        raise ValueError(f'{path}: {twice[:3]} stand twice; list each image once')
    return names


def read_xml(path: str, backend_args: Optional[dict] = None) -> ET.Element:
    """The root of an XML file.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If it is not XML; names it.
    """
    require_file(path, 'VOCDataset')
    try:
        return ET.fromstring(get(path, backend_args=backend_args))
    except (ET.ParseError, ValueError, LookupError) as error:
        raise ValueError(f'{path}: not well-formed XML ({error})') from error


def name_of(item: ET.Element, path: str) -> str:
    """An object's class.

    Raises:
        ValueError: If it has none.
    """
    name = (item.findtext('name') or '').strip()
    if not name:
        raise ValueError(f'{path}: not an annotation of VOC: an object without name')
    return name


@DATASETS.register_module()
class VOCDataset(StrictClasses, mmdet.datasets.VOCDataset):
    """MMDetection's, for any classes and image formats, without degenerate boxes."""

    def load_data_list(self) -> List[dict]:
        """Read the list of images and their XML files.

        Boxes without width or height are left out, with a warning.

        Raises:
            FileNotFoundError: If the list or an XML file does not exist.
            ValueError: If an XML file is none, lacks a value or has a class that is
                not in ``metainfo.classes``; names it.
        """
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
        """Parse the XML file of an image.

        Args:
            img_info (dict): With img_id, file_name and xml_path.
        """
        path = img_info['xml_path']
        image_path = osp.join(self.sub_data_root, img_info['file_name'])
        root = read_xml(path, self.backend_args)
        self.refuse_other_classes(sorted({name_of(o, path) for o in root.iter('object')}), path)
        width, height = self._size_of(root, path, image_path)
        instances = [self._instance(o, path) for o in root.findall('object')]
        instances = [instance for instance in instances if instance is not None]
        kept = [
            instance
            for instance in instances
            if instance['bbox'][2] > instance['bbox'][0]
            and instance['bbox'][3] > instance['bbox'][1]
        ]
        if len(kept) < len(instances):
            warnings.warn(
                f'{osp.basename(path)}: left out {len(instances) - len(kept)} box(es) without '
                'width or height',
                stacklevel=2,
            )
        return dict(
            img_path=image_path,
            img_id=img_info['img_id'],
            xml_path=path,
            height=height,
            width=width,
            instances=kept,
        )

    def _image_of(self, name: str) -> str:
        """``JPEGImages/<name>.jpg``, or with the suffix that there is."""
        files = [osp.join(self.img_subdir, name + suffix) for suffix in _SUFFIXES]
        files += [osp.join(self.img_subdir, name + suffix.upper()) for suffix in _SUFFIXES]
        found = (file for file in files if osp.isfile(osp.join(self.sub_data_root, file)))
        return next(found, files[0])

    def _size_of(self, root: ET.Element, path: str, image_path: str) -> tuple:
        """As written; of the image if it is not, or 0 as some tools leave it."""
        size = root.find('size')
        if size is None:
            return header_size(image_path)
        found = tuple(int(_number(size, key, path)) for key in ('width', 'height'))
        return found if min(found) > 0 else header_size(image_path)

    def _instance(self, item: ET.Element, path: str) -> Optional[dict]:
        name = name_of(item, path)
        if name not in self.cat2label:
            return None  # ignore_other_categories
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
