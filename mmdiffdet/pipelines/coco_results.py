"""Detections in COCO's form, as pycocotools and labelling tools read them."""

import json
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from torch import Tensor

from ..utils import atomic_path


class CocoResults:
    """Collects detections and writes ``images``, ``categories``, ``annotations``.

    Each annotation has a ``score``; ``COCO(...).loadRes(d['annotations'])``
    evaluates them.

    Args:
        classes (Sequence[str]): Class names, by label.
        ann_file (str | Path, optional): In COCO format; image ids and
            category ids are then those of its images and categories.
            By default they count from 1.

    Raises:
        FileNotFoundError: If ``ann_file`` does not exist.
        ValueError: If it is not in COCO format or lacks a class.
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
        """The id of an image in ``ann_file``; None without one.

        Args:
            name (str): Its path, of which the last part may be enough.

        Raises:
            ValueError: If the file has no such image, or several.
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
        """Add an image.

        Args:
            name (str): Becomes ``file_name``.
            size (Sequence[int]): Height and width.
            boxes (Tensor): (M, 4), xyxy in pixels.
            labels (Tensor): (M,).
            scores (Tensor): (M,).
            extra: More fields of the image, e.g. ``frame``.
        """
        found = self.image_id(name)
        image_id = len(self.images) + 1 if found is None else found
        self.images.append(
            dict(id=image_id, file_name=name, height=int(size[0]), width=int(size[1]), **extra)
        )
        for (x1, y1, x2, y2), label, score in zip(
            boxes.tolist(), labels.tolist(), scores.tolist(), strict=True
        ):
            self.annotations.append(
                dict(
                    id=len(self.annotations) + 1,
                    image_id=image_id,
                    category_id=self.categories[label]['id'],
                    bbox=[x1, y1, x2 - x1, y2 - y1],
                    area=(x2 - x1) * (y2 - y1),
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
        for key, fields in (('images', ('id', 'file_name')), ('categories', ('id', 'name'))):
            for item in content[key]:
                for field in fields:
                    item[field]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f'--ann-file {path} is not in COCO format: {error!r}') from error
    return content
