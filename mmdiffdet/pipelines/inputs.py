"""The images and videos that a user names by files, folders and patterns."""

import glob
import os.path as osp
from pathlib import Path
from typing import Dict, List, NamedTuple, Sequence

IMAGE_ENDINGS = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif', '.tiff', '.webp')
VIDEO_ENDINGS = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg')


class Input(NamedTuple):
    """A file to detect in.

    ``name`` is its path below the folder that all inputs share, with forward slashes.
    """

    path: Path
    name: str

    @property
    def is_video(self) -> bool:
        """Whether it ends like a video."""
        return self.path.suffix.lower() in VIDEO_ENDINGS


def find_inputs(given: Sequence[str]) -> List[Input]:
    """Images and videos of files, folders and patterns, each file once.

    Files may have any ending; folders are searched however deep; patterns have ``*``,
    ``?``, ``[...]`` and ``**``. The order is the given one, sorted within a folder or
    pattern. FileNotFoundError if one of them leads to no file.
    """
    found: Dict[Path, None] = {}
    for text in given:
        if osp.isdir(text):
            paths = sorted(p for p in Path(text).rglob('*') if _is_media(p))
            if not paths:
                raise FileNotFoundError(
                    f'folder {text} holds no image or video; endings are '
                    f'{", ".join(IMAGE_ENDINGS + VIDEO_ENDINGS)}'
                )
        elif osp.isfile(text):
            paths = [Path(text)]
        elif glob.has_magic(text):
            paths = sorted(Path(p) for p in glob.glob(text, recursive=True) if osp.isfile(p))
            if not paths:
                raise FileNotFoundError(f'pattern {text} matches no file')
        else:
            raise FileNotFoundError(f'{text} does not exist: give an image, a folder or a video')
        found.update(dict.fromkeys(paths))
    root = Path(osp.commonpath([osp.abspath(p.parent) for p in found]))
    return [Input(p, Path(osp.abspath(p)).relative_to(root).as_posix()) for p in found]


def _is_media(path: Path) -> bool:
    # not the hidden ones, which some systems put beside files
    return (
        path.suffix.lower() in IMAGE_ENDINGS + VIDEO_ENDINGS
        and not path.name.startswith('.')
        and path.is_file()
    )
