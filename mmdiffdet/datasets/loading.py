"""Reading of files that the user may have got wrong."""

import os
import os.path as osp
from typing import Any, Iterable, List, Optional

import mmcv.transforms
import mmdet.datasets.transforms

from ..registry import TRANSFORMS

FROM_FILE = 'from_file'
"""``metainfo.classes`` that are read from the annotation file."""


def require_file(path: str, owner: str) -> None:
    """Raise FileNotFoundError, with the way out, unless ``path`` is a file."""
    if '://' not in path and not osp.isfile(path):
        extra = os.environ.get('EXTRA_COCO_DATASETS')
        raise FileNotFoundError(
            f'{owner}: annotation file {osp.abspath(path)} does not exist. '
            'Set data_root and ann_file of the data set in the config, or the '
            'variables that it takes them from (COCO_ROOT, OWN_ROOT, '
            'OWN_TRAIN, ...)' + (f'; EXTRA_COCO_DATASETS is {extra!r}' if extra else '')
        )


class NeverEmpty:
    """For data sets of MMDetection: no image at all is an error."""

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
        return kept


class StrictClasses(NeverEmpty):
    """For data sets of MMDetection: no class is dropped without a word.

    Args:
        ignore_other_categories (bool): Whether the annotations may have
            classes that are not in ``metainfo.classes``; their objects are
            left out. Defaults to False: then that is an error.

    Raises:
        ValueError: If classes are to be read from the file and were not.
    """

    def __init__(self, *args: Any, ignore_other_categories: bool = False, **kwargs: Any) -> None:
        self.ignore_other_categories = ignore_other_categories
        if (kwargs.get('metainfo') or {}).get('classes') == FROM_FILE:
            raise ValueError(
                f'metainfo.classes={FROM_FILE!r} is filled in when the config '
                'is read, as the model needs it too: read the config by '
                'mmdiffdet.engine.config_file.read_config'
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


@TRANSFORMS.register_module()
class LoadImageFromFile(mmcv.transforms.LoadImageFromFile):
    """MMCV's, with an error that names the image.

    Raises:
        ValueError: If the file cannot be decoded as an image.
        FileNotFoundError: If there is no such file.
    """

    def transform(self, results: dict) -> Optional[dict]:
        """Load the image at ``results['img_path']``."""
        try:
            return super().transform(results)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f'image {results["img_path"]} does not exist; is data_prefix '
                'of the data set right? tools/check_dataset.py CONFIG counts '
                'all that are missing'
            ) from error
        except Exception as error:  # depends on the decoding library
            raise ValueError(
                f'image {results["img_path"]} cannot be decoded: replace the '
                'file or take it out of the annotations'
            ) from error


@TRANSFORMS.register_module()
class PackDetInputs(mmdet.datasets.transforms.PackDetInputs):
    """MMDetection's, also for mirror images that are one pixel wide."""

    def transform(self, results: dict) -> dict:
        """Pack; a tensor cannot have an image's negative strides."""
        if min(results['img'].strides) < 0:
            results['img'] = results['img'].copy()
        return super().transform(results)
