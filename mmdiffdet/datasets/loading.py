"""Reading of files that the user may have got wrong."""
import os.path as osp
from typing import Optional

import mmcv.transforms

from ..registry import TRANSFORMS


def require_file(path: str, owner: str) -> None:
    """Raise FileNotFoundError, with the way out, unless ``path`` is a file."""
    if '://' not in path and not osp.isfile(path):
        raise FileNotFoundError(
            f'{owner}: annotation file {osp.abspath(path)} does not exist. '
            'Set data_root and ann_file of the data set in the config, or the '
            'environment variable that the config reads its root from')


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
        except FileNotFoundError:
            raise
        except Exception as error:  # depends on the decoding library
            raise ValueError(
                f'image {results["img_path"]} cannot be decoded: replace the '
                'file or take it out of the annotations') from error
