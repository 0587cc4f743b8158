"""What all data sets share: files that exist, images that can be read, classes."""

import os
import os.path as osp
import warnings
from typing import Any, Iterable, List, Optional

import numpy as np

from ..utils import printable
from .few_labels import FewLabels
from .image_file import BadImage, count_image, require_regular

FROM_FILE = 'from_file'
"""``metainfo.classes`` that are read from the annotation file."""


def require_file(path: str, owner: str) -> None:
    """Refuse a path that is not a file, with the way out.

    Args:
        path (str): Local, or an address, which is not looked up.
        owner (str): Who asks, for the error.

    Raises:
        FileNotFoundError: If there is nothing.
        ValueError: If it is a folder, or something that reading would wait for.
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


class CheckedDataset(FewLabels):
    """For data sets of MMDetection: nothing is left out without a word.

    No image at all is an error; boxes that reach out of their image are counted.

    Args:
        on_bad_image (str): What to do about an image that is missing, that nothing
            can decode, or that has another size than annotated: ``'stop'`` raises,
            ``'skip'`` takes another image in its place in training and a grey one
            of the annotated size in testing, whose objects then count as missed;
            both are told. Defaults to ``'stop'``.

    Raises:
        ValueError: If it is neither.
    """

    BOXES_END_INSIDE = True
    """Whether a box that reaches out of its image is a sign of a mistake."""

    def __init__(self, *args: Any, on_bad_image: str = 'stop', **kwargs: Any) -> None:
        if on_bad_image not in ('stop', 'skip'):
            raise ValueError(f"on_bad_image must be 'stop' or 'skip', got {on_bad_image!r}")
        self.on_bad_image = on_bad_image
        super().__init__(*args, **kwargs)

    def filter_data(self) -> List[dict]:
        """What is left after ``filter_cfg``.

        Raises:
            ValueError: If that is nothing; sampling would wait for ever.
        """
        kept = super().filter_data()
        if not kept:
            raise ValueError(
                f'{self.ann_file}: no image is left'
                + (
                    ''
                    if self.test_mode
                    else ' after filter_cfg='
                    f'{self.filter_cfg}: are there objects of the classes '
                    f'{self.metainfo["classes"][:5]}?'
                )
            )
        self._tell_of_boxes(kept)
        return kept

    def prepare_data(self, idx: int) -> Optional[dict]:
        """An image through the pipeline; see ``on_bad_image``.

        Raises:
            BadImage, FileNotFoundError: If it cannot be read, with ``'stop'``.
        """
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
        """An image through the pipeline.

        Raises:
            ValueError: If none of many could be read.
        """
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
    """For data sets of MMDetection: no class is dropped without a word.

    Args:
        ignore_other_categories (bool): Whether the annotations may have
            classes that are not in ``metainfo.classes``; their objects are
            left out. Defaults to False: then that is an error.

    Raises:
        ValueError: If classes are to be read from the file and were not, or a name
            stands twice.
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
        """Raise ValueError if ``path`` has classes that are not expected."""
        classes = tuple(self.metainfo['classes'])
        other = [name for name in found if name not in classes]
        if other and not self.ignore_other_categories:
            raise ValueError(
                f'{path} has categories {other} that are missing from '
                f'metainfo.classes {classes}. Add them (and set num_classes), '
                'or set ignore_other_categories=True of the data set to leave '
                'their objects out'
            )
