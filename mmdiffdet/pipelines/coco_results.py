"""Write detections in COCO's format, which pycocotools and labelling tools read."""

import json
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from torch import Tensor

from ..utils import atomic_path


class CocoResults:
    """Collects detections and writes ``images``, ``categories``, ``annotations``.

    Each annotation has a ``score``; ``COCO(...).loadRes(d['annotations'])``
    evaluates them. Ids of images and categories count from 1, or are those of
    ``ann_file``, in COCO format. ``classes`` are the names, by label; ValueError if
    the file lacks one of them.
    """

    def __init__(self, classes: Sequence[str], ann_file: Optional[Path] = None) -> None:
        self.images: List[Dict[str, Any]] = []
        self.annotations: List[Dict[str, Any]] = []
        self._ids: Optional[Dict[str, int]] = None
        ids = {name: i + 1 for i, name in enumerate(classes)}
        if ann_file is not None:
            content = _read(Path(ann_file))
            ids = {category['name']: category['id'] for category in content['categories']}
            missing = [name for name in classes if name not in ids]
            if missing:
                raise ValueError(f'{ann_file} has no categories {missing}; the model has them')
            self._ids = {}
            for image in content['images']:
                # by its whole name, and by its last part where that is unique
                name = image['file_name']
                for key in {name, Path(name).name}:
                    self._ids[key] = None if key in self._ids else image['id']
        self.categories = [dict(id=ids[name], name=name) for name in classes]

    def image_id(self, name: str) -> Optional[int]:
        """The id in ``ann_file`` (None without one) of an image, given its path or file name.

        ValueError if the file has no such image, or several.
        """
        if self._ids is None:
            return None
        for key in (name, Path(name).name):
            if self._ids.get(key) is not None:
                return self._ids[key]
        what = 'several images' if Path(name).name in self._ids else 'no image'
        raise ValueError(f'--ann-file has {what} named {name}')

    def add(
        self,
        name: str,
        size: Sequence[int],
        boxes: Tensor,
        labels: Tensor,
        scores: Tensor,
        **extra: Any,
    ) -> None:
        """Add the M detections of an image.

        ``name`` becomes its ``file_name``, ``size`` is its height and width; boxes
        (M, 4) are xyxy in pixels, labels and scores (M,). ``extra`` are more fields
        of the image, e.g. ``frame``.
        """
        found = self.image_id(name)
        image_id = len(self.images) + 1 if found is None else found
        self.images.append(
            dict(id=image_id, file_name=name, height=int(size[0]), width=int(size[1]), **extra)
        )
        values = (boxes.tolist(), labels.tolist(), scores.tolist())
        for (x1, y1, x2, y2), label, score in zip(*values, strict=True):
            width, height = x2 - x1, y2 - y1
            self.annotations.append(
                dict(
                    id=len(self.annotations) + 1,
                    image_id=image_id,
                    category_id=self.categories[label]['id'],
                    bbox=[x1, y1, width, height],
                    area=width * height,
                    iscrowd=0,
                    score=score,
                )
            )

    def write(self, path: Path) -> None:
        """Write what has been added, as JSON."""
        content = dict(images=self.images, categories=self.categories, annotations=self.annotations)
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(content))


def _read(path: Path) -> Dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f'--ann-file {path} does not exist')
    try:
        content = json.loads(path.read_text())
        for item in content['images']:
            item['id'], item['file_name']
        for item in content['categories']:
            item['id'], item['name']
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f'--ann-file {path} is not in COCO format: {error!r}') from error
    return content
