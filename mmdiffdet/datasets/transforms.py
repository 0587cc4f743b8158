"""MMDetection's transforms with errors that name the file."""

from typing import Optional

import mmcv.transforms
import mmdet.datasets.transforms
import numpy as np

from ..registry import TRANSFORMS
from .image_file import BadImage, count_image, read_image


@TRANSFORMS.register_module()
class LoadImageFromFile(mmcv.transforms.LoadImageFromFile):
    """MMCV's transform, reading with :func:`read_image`, which raises BadImage.

    With another ``color_type`` or ``imdecode_backend`` than the default ones MMCV
    reads the image.
    """

    def transform(self, results: dict) -> Optional[dict]:
        """Load the image at ``results['img_path']``, unless ``img`` is there."""
        path = results['img_path']
        if 'img' in results:
            image = results['img']
        elif self.color_type == 'color' and self.imdecode_backend == 'cv2':
            size = (results.get('height'), results.get('width'))
            try:
                image, notes = read_image(path, None if None in size else size, self.backend_args)
            except (BadImage, FileNotFoundError):
                if self.ignore_empty:
                    return None
                raise
            for kind in notes:
                count_image(kind, path)
        else:
            try:
                return super().transform(results)
            except FileNotFoundError as error:
                raise FileNotFoundError(f'image {path} does not exist') from error
            except Exception as error:  # depends on the decoding library
                raise BadImage(
                    f'image {path} cannot be decoded: replace the file or take it out of the '
                    'annotations'
                ) from error
        if self.to_float32:
            image = image.astype(np.float32)
        results.update(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])
        return results


@TRANSFORMS.register_module()
class PackDetInputs(mmdet.datasets.transforms.PackDetInputs):
    """MMDetection's transform, also for mirror images that are one pixel wide."""

    def transform(self, results: dict) -> dict:
        """Pack the inputs; a tensor cannot have a mirror image's negative strides."""
        if min(results['img'].strides) < 0:
            results['img'] = results['img'].copy()
        return super().transform(results)
