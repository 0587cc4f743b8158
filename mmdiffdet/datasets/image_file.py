"""Reading image files that are cut, of 16 bits, or rotated by their header."""

import io
import os
import os.path as osp
import stat
import warnings
from typing import Dict, Optional, Set, Tuple

import cv2
import numpy as np
from mmengine.fileio import get
from PIL import Image, ImageFile, ImageOps

from ..utils import printable

_ORIENTATION = 0x0112  # EXIF's tag
_ROTATED = (5, 6, 7, 8)  # its values that swap the sides
_GIANT = 5e7  # pixels; more than a camera's

CUT = 'image that lacks its last bytes (what is there is used)'
DEEP = 'image of 16 bits (its highest bits in use become the 8 that are used)'
OF_HEADER = 'image with boxes of the unrotated file (its EXIF orientation is not applied)'


class BadImage(ValueError):
    """An image that nothing can decode, or that is not the annotated one."""


class WrongSize(BadImage):
    """An image that has another size than its annotation says."""


def _wrong_size(path: str, found: Tuple[int, int], expected: Tuple[int, int]) -> WrongSize:
    return WrongSize(
        f'image {printable(path)} is {found[1]}x{found[0]}, its annotation says '
        f'{expected[1]}x{expected[0]}: its boxes would be in wrong places. Correct one of the two'
    )


def require_regular(path: str, what: str) -> None:
    """Raise ValueError if a local path is a folder, FIFO, device or socket.

    Reading those would fail, wait or never end. ``what`` the path should be is for
    the error.
    """
    if '://' in path or not osp.exists(path):
        return
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        kind = 'a folder' if stat.S_ISDIR(mode) else 'a FIFO, socket or device'
        raise ValueError(f'{what} {printable(path)} is {kind}, not a file')


def read_image(
    path: str,
    size: Optional[Tuple[int, int]] = None,
    backend_args: Optional[dict] = None,
) -> Tuple[np.ndarray, Tuple[str, ...]]:
    """Read an image as 8-bit BGR.

    The first reader is OpenCV, as in MMDetection; what it cannot decode, such as
    a JPEG without its last bytes, is left to Pillow. The EXIF orientation is
    applied, unless ``size`` says that the annotations are of the file as it is
    stored. Of 16-bit pixels the eight highest of the bits in use (10, 12, 14 or
    16) are kept, so that a microscope's 12 bits are not black.

    Args:
        path (str): A local path, or an address for ``backend_args``.
        size (tuple, optional): (height, width) as annotated.
        backend_args (dict, optional): See ``mmengine.fileio.get``.

    Returns:
        tuple: (H, W, 3) uint8, and which of :data:`CUT`, :data:`DEEP` and
        :data:`OF_HEADER` it is. BadImage if nothing can decode it.
    """
    if '://' not in path and not osp.exists(path):
        hint = ' (its name has backslashes)' if '\\' in path else ''
        raise FileNotFoundError(
            f'image {printable(path)} does not exist{hint}; is data_prefix of the data set '
            'right? tools/check_dataset.py CONFIG counts all that are missing'
        )
    try:
        require_regular(path, 'image')
        content = get(path, backend_args=backend_args)
    except Exception as error:  # depends on the storage
        raise BadImage(f'image {printable(path)} cannot be read: {error}') from error
    _refuse_giants(content, path, size)
    image, notes = _decode(content, path, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    if size is not None and image.shape[:2] != tuple(size):
        found = image.shape[:2]
        if image.shape[1::-1] == tuple(size) and _orientation(content) in _ROTATED:
            flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
            image, notes = _decode(content, path, flags)
            notes += (OF_HEADER,)
        if image.shape[:2] != tuple(size):
            raise _wrong_size(path, found, size)
    if image.dtype == np.uint16:
        image, notes = to_8_bits(image), notes + (DEEP,)
    return image, notes


def _refuse_giants(content: bytes, path: str, size: Optional[Tuple[int, int]]) -> None:
    """Raise BadImage rather than fill the memory because a damaged header says so."""
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(content)) as image:
            warnings.simplefilter('ignore')
            width, height = image.size
    except Image.DecompressionBombError as error:
        if size and 4 * size[0] * size[1] > _GIANT:
            return  # it is annotated as one
        raise BadImage(f'image {printable(path)}: {_first_line(error)}') from error
    except Exception:  # no header that Pillow knows
        return
    if size and width * height > max(4 * size[0] * size[1], _GIANT):
        raise _wrong_size(path, (height, width), size)


def to_8_bits(image: np.ndarray) -> np.ndarray:
    """The eight highest of the 8, 10, 12, 14 or 16 bits that a uint16 image uses."""
    bits = max(8, int(image.max(initial=0)).bit_length())
    return (image >> (bits + bits % 2 - 8)).astype(np.uint8)


def header_size(path: str) -> Tuple[int, int]:
    """(width, height) by the file's header, with the EXIF orientation applied.

    BadImage if it has no header of an image.
    """
    if not osp.exists(path):
        raise FileNotFoundError(f'image {printable(path)} does not exist')
    try:
        require_regular(path, 'image')
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter('ignore')
            # the size before any rotation, which some versions of Pillow have applied to TIFF
            tags = getattr(image, 'tag_v2', {})
            width, height = tags.get(256) or image.size[0], tags.get(257) or image.size[1]
            rotated = image.getexif().get(_ORIENTATION) in _ROTATED
    except Exception as error:  # depends on the format
        raise BadImage(
            f'image {printable(path)} cannot be decoded: {_first_line(error)}'
        ) from error
    return (height, width) if rotated else (width, height)


def _decode(content: bytes, path: str, flags: int) -> Tuple[np.ndarray, Tuple[str, ...]]:
    image, level = None, cv2.getLogLevel()
    cv2.setLogLevel(0)  # what OpenCV cannot decode is reported by us
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flags) if content else None
    except cv2.error:
        pass  # too large for OpenCV, or damaged
    finally:
        cv2.setLogLevel(level)
    stored = bool(flags & cv2.IMREAD_IGNORE_ORIENTATION)
    # OpenCV does not rotate WebP
    unturned = content[8:12] == b'WEBP' and not stored and (_orientation(content) or 1) != 1
    if image is None or unturned:
        return _with_pillow(content, path, stored)
    if image.dtype not in (np.uint8, np.uint16):
        raise BadImage(
            f'image {printable(path)} has pixels of {image.dtype}: convert it to 8 or 16 bits, as '
            'only you know its range'
        )
    return image, ()


def _with_pillow(content: bytes, path: str, stored: bool) -> Tuple[np.ndarray, Tuple[str, ...]]:
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            notes = ()
            image = Image.open(io.BytesIO(content))
            try:
                ImageFile.LOAD_TRUNCATED_IMAGES = False
                image.load()
            except Exception:  # depends on the format
                image = Image.open(io.BytesIO(content))
                ImageFile.LOAD_TRUNCATED_IMAGES = True
                image.load()
                notes = (CUT,)
            if notes and np.ptp(image.getextrema()) == 0:
                raise ValueError('nothing of it is there but its header')
            if not stored:
                image = ImageOps.exif_transpose(image)
            if image.mode.startswith('I'):  # integers of more than 8 bits
                gray = np.asarray(image).clip(0, 65535).astype(np.uint16)
                return np.repeat(gray[..., None], 3, 2), notes
            if image.mode == 'F':
                raise ValueError('pixels that are not integers')
            return np.ascontiguousarray(np.asarray(image.convert('RGB'))[..., ::-1]), notes
    except Exception as error:  # depends on the format
        raise BadImage(
            f'image {printable(path)} cannot be decoded ({_first_line(error)}): replace the file '
            'or take it out of the annotations, or go on without it (on_bad_image=skip of the '
            'data set, --on-bad-image skip of tools/train.py)'
        ) from error
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def _orientation(content: bytes) -> Optional[int]:
    try:
        with Image.open(io.BytesIO(content)) as image:
            return image.getexif().get(_ORIENTATION)
    except Exception:  # no header that Pillow knows
        return None


def _first_line(error: BaseException) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return 'no format that is known' if 'cannot identify image file' in text else text


class ImageCounter:
    """Warns of images of a kind, each once.

    Counts are of this process: a data loader's workers count each their own.
    """

    def __init__(self) -> None:
        self.seen: Dict[str, Set[str]] = {}

    def __call__(self, kind: str, path: str, detail: str = '') -> None:
        """Count an image; warn of the first three and of every tenth power."""
        seen = self.seen.setdefault(kind, set())
        if path in seen:
            return
        seen.add(path)
        count = len(seen)
        if count <= 3 or str(count).strip('0') == '1':
            told = f'{kind}: {detail or path} (number {count} in this process)'
            warnings.warn(told, stacklevel=2)


count_image = ImageCounter()
