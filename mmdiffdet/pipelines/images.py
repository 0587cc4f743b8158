"""From images to a detector's inputs."""

from pathlib import Path
from typing import Any, Dict, List, Sequence, Union

import numpy as np
import PIL.Image
import PIL.ImageOps
from mmengine.registry import DefaultScope

from ..registry import TRANSFORMS


class ImageError(ValueError):
    """An image that cannot be read; others may be."""


Image = Union[str, Path, PIL.Image.Image, np.ndarray]


class ImageProcessor:
    """The test pipeline of a config, for images that are not in a data set.

    The first transform must be LoadImageFromFile; annotations are not loaded.
    """

    def __init__(self, test_pipeline: Sequence[Dict[str, Any]]) -> None:
        steps = [
            {k: _tuples(v) for k, v in step.items()}
            for step in test_pipeline
            if _name(step) != 'LoadAnnotations'
        ]
        if not steps or _name(steps[0]) != 'LoadImageFromFile':
            raise ValueError(
                'the test pipeline must begin with LoadImageFromFile, it begins with '
                f'{_name(steps[0]) if steps else "nothing"}'
            )
        with DefaultScope.overwrite_default_scope('mmdiffdet'):
            self._from_file = TRANSFORMS.build(steps[0])
            self._from_array = TRANSFORMS.build(dict(steps[0], type='mmdet.LoadImageFromNDArray'))
            self._steps = [TRANSFORMS.build(step) for step in steps[1:]]

    def __call__(self, image: Image) -> Dict[str, List[Any]]:
        """``inputs`` and ``data_samples`` of one image, as a batch.

        The image is a file, a PIL image, or an (H, W, 3) uint8 array in BGR order, as
        OpenCV and MMDetection have them; ValueError if it is anything else, ImageError
        if the file cannot be decoded.
        """
        if not isinstance(image, (str, Path)):
            data = self._from_array(dict(img=_to_bgr(image)))
        else:
            if not Path(image).is_file():
                raise FileNotFoundError(f'image {image} does not exist')
            try:
                data = self._from_file(dict(img_path=str(image)))
            except ValueError as error:
                raise ImageError(f'image {image} cannot be decoded') from error
        for step in self._steps:
            data = step(data)
        return {k: [v] for k, v in data.items()}


def _name(step: Dict[str, Any]) -> str:
    return str(step.get('type')).split('.')[-1]


def _tuples(value: Any) -> Any:
    """Lists without dicts as tuples, which JSON does not have and transforms ask for."""
    return tuple(map(_tuples, value)) if isinstance(value, list) and not _dicts(value) else value


def _dicts(values: List[Any]) -> bool:
    return any(isinstance(v, dict) or (isinstance(v, list) and _dicts(v)) for v in values)


def _to_bgr(image: Union[PIL.Image.Image, np.ndarray]) -> np.ndarray:
    if isinstance(image, PIL.Image.Image):
        # turned as the camera was held, which OpenCV does of itself
        rgb = np.asarray(PIL.ImageOps.exif_transpose(image).convert('RGB'))
        return np.ascontiguousarray(rgb[..., ::-1])
    if not isinstance(image, np.ndarray):
        raise ValueError(
            'an image must be a path, a PIL image or an array, got '
            f'{type(image).__module__}.{type(image).__name__}'
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(
            'an array must be (height, width, 3) uint8 in BGR order, got '
            f'{image.shape} {image.dtype}'
        )
    return image
