"""What all data sets share: files that exist, images that can be read, classes."""

import os
import os.path as osp
import warnings
from collections import Counter
from typing import Any, Hashable, Iterable, List, Optional

import numpy as np
from mmengine.fileio import get

from ..utils import printable
from .few_labels import FewLabels
from .image_file import BadImage, count_image, require_regular

FROM_FILE = 'from_file'
"""``metainfo.classes`` that are read from the annotation file."""


def require_file(path: str, owner: str) -> None:
    """Raise FileNotFoundError or ValueError unless a local path is a file.

    Addresses such as ``s3://...`` are not looked up. ``owner`` is the data set or
    metric that asks, for the error.
    """
    require_regular(path, f'{owner}: annotation file')
    if '://' not in path and not osp.isfile(path):
        extra = os.environ.get('EXTRA_COCO_DATASETS')
        raise FileNotFoundError(
            f'{owner}: annotation file {printable(osp.abspath(path))} does not exist. '
            'Set data_root and ann_file of the data set in the config, or the '
            'variables that it takes them from (COCO_ROOT, OWN_ROOT, '
            'OWN_TRAIN, ...)' + (f'; EXTRA_COCO_DATASETS is {extra!r}' if extra else '')
        )


def read_text(path: str, backend_args: Optional[dict] = None) -> str:
    """A text file in UTF-8, without its byte order mark; ValueError if it is none."""
    try:
        return get(path, backend_args=backend_args).decode('utf-8-sig')
    except UnicodeDecodeError as error:
        raise ValueError(f'{path}: not text in UTF-8 ({error.reason})') from error


def repeated(values: Iterable[Hashable]) -> List[Hashable]:
    """The values that stand more than once, in the order in which they first do."""
    return [value for value, count in Counter(values).items() if count > 1]


class CheckedDataset(FewLabels):
    """A mixin for MMDetection's data sets that leaves nothing out without a warning.

    No image at all is an error; boxes that reach out of their image are counted.

    Args:
        on_bad_image (str): What to do about an image that is missing, that nothing
            can decode, or that has another size than annotated: ``'stop'`` raises,
            ``'skip'`` takes another image in its place in training and a grey one
            of the annotated size in testing, whose objects then count as missed;
            both warn. Defaults to ``'stop'``.
    """

    BOXES_END_INSIDE = True
    """Whether a box that reaches out of its image is a sign of a mistake."""

    def __init__(self, *args: Any, on_bad_image: str = 'stop', **kwargs: Any) -> None:
        if on_bad_image not in ('stop', 'skip'):
            raise ValueError(f"on_bad_image must be 'stop' or 'skip', got {on_bad_image!r}")
        self.on_bad_image = on_bad_image
        super().__init__(*args, **kwargs)

    def filter_data(self) -> List[dict]:
        """The images that ``filter_cfg`` leaves; ValueError if it leaves none.

        Sampling from none would wait for ever.
        """
        kept = super().filter_data()
        if not kept:
            why = (
                f' after filter_cfg={self.filter_cfg}: are there objects of the classes '
                f'{self.metainfo["classes"][:5]}?'
            )
            raise ValueError(f'{self.ann_file}: no image is left{"" if self.test_mode else why}')
        self._tell_of_boxes(kept)
        return kept

    def prepare_data(self, idx: int) -> Optional[dict]:
        """Put an image through the pipeline; see ``on_bad_image``."""
        try:
            return super().prepare_data(idx)
        except (BadImage, FileNotFoundError) as error:
            info = self.get_data_info(idx)
            if self.on_bad_image == 'stop':
                raise
            place = 'a grey one' if self.test_mode else 'another'
            count_image(f'bad image, {place} in its place', info['img_path'], str(error))
            if not self.test_mode:
                return None  # the caller draws another
            info['img'] = np.full((info['height'], info['width'], 3), 128, np.uint8)
            return self.pipeline(info)

    def __getitem__(self, idx: int) -> dict:
        """Put an image through the pipeline; ValueError if none of many can be read."""
        try:
            return super().__getitem__(idx)
        except Exception as error:
            if 'Cannot find valid image' not in str(error):
                raise
            raise ValueError(
                f'{self.ann_file}: of {self.max_refetch + 1} images drawn, none could be read '
                f'(the last one is {self.get_data_info(idx)["img_path"]}); is data_prefix right?'
            ) from error

    def _tell_of_boxes(self, kept: List[dict]) -> None:
        objects, outside, example = 0, 0, ''
        for info in kept:
            width, height = info['width'] + 1, info['height'] + 1  # VOC's end a pixel outside
            for instance in info['instances']:
                x1, y1, x2, y2 = instance['bbox']
                objects += not instance['ignore_flag']
                if x1 < -1 or y1 < -1 or x2 > width or y2 > height:
                    outside += 1
                    example = example or f'{info["img_path"]}: {[x1, y1, x2, y2]}'
        if outside and self.BOXES_END_INSIDE:
            warnings.warn(
                f'{self.ann_file}: {outside} box(es) reach out of their image by more than a '
                f'pixel ({example}); they are used as they are',
                stacklevel=2,
            )
        if not objects and not self.test_mode:
            warnings.warn(
                f'{self.ann_file}: there is not one object to learn from in {len(kept)} images',
                stacklevel=2,
            )


class StrictClasses(CheckedDataset):
    """A mixin for MMDetection's data sets that drops no class without a word.

    Args:
        ignore_other_categories (bool): Whether the annotations may have
            classes that are not in ``metainfo.classes``; their objects are
            left out. Defaults to False: then that is an error.
    """

    def __init__(self, *args: Any, ignore_other_categories: bool = False, **kwargs: Any) -> None:
        self.ignore_other_categories = ignore_other_categories
        classes = (kwargs.get('metainfo') or {}).get('classes')
        if isinstance(classes, (list, tuple)) and len(set(classes)) < len(classes):
            raise ValueError(f'metainfo.classes has a name twice: {classes}')
        if classes == FROM_FILE:
            raise ValueError(
                f'metainfo.classes={FROM_FILE!r} is filled in when the config '
                'is read, as the model needs it too: read the config by '
                'mmdiffdet.config.file.read_config'
            )
        super().__init__(*args, **kwargs)

    def refuse_other_classes(self, found: Iterable[str], path: str) -> None:
        """Raise ValueError if the classes ``found`` in ``path`` are not those of the config."""
        classes = tuple(self.metainfo['classes'])
        other = [name for name in found if name not in classes]
        if other and not self.ignore_other_categories:
            raise ValueError(
                f'{path} has categories {other} that are missing from '
                f'metainfo.classes {classes}. Add them (and set num_classes), '
                'or set ignore_other_categories=True of the data set to leave '
                'their objects out'
            )
