"""What is wrong with a data set, before a training finds out."""

import os.path as osp
import warnings
from collections import Counter
from dataclasses import dataclass, field
from typing import Dict, List, Optional, Sequence, Set

import numpy as np
from mmengine.dataset import BaseDataset

from .image_file import BadImage, WrongSize, read_image

MAX_EXAMPLES = 3


@dataclass
class DatasetReport:
    """Counts and findings of one data set.

    Args:
        images (int): After filtering.
        objects (int): Boxes that are trained on or looked for.
        ignored (int): Boxes that are neither.
        by_class (dict[str, int]): Objects of each class.
        found (dict[str, list[str]]): Where, by kind of finding.
        errors (set[str]): Kinds of findings with which training or testing would
            stop, or learn from wrong places.
    """

    images: int = 0
    objects: int = 0
    ignored: int = 0
    by_class: Dict[str, int] = field(default_factory=dict)
    found: Dict[str, List[str]] = field(default_factory=dict)
    errors: Set[str] = field(default_factory=set)

    def note(self, kind: str, where: str, error: bool = False) -> None:
        """Add a finding."""
        self.found.setdefault(kind, []).append(where)
        if error:
            self.errors.add(kind)

    @property
    def failed(self) -> bool:
        """Whether a training or test would stop or learn from wrong places."""
        return bool(self.errors)

    def text(self) -> str:
        """All of it, a line a fact."""
        lines = [f'{self.images} images, {self.objects} objects, {self.ignored} ignored']
        width = max(map(len, self.by_class), default=0)
        shown = self.by_class.items()
        if len(self.by_class) > 30:
            shown = Counter(self.by_class).most_common(10)
            lines.append(f'{len(self.by_class)} classes, the most frequent:')
        lines += [f'  {name:{width}} {count}' for name, count in shown]
        absent = [name for name, n in self.by_class.items() if n == 0]
        if absent:
            names = ', '.join(absent[:MAX_EXAMPLES])
            more = ', ...' if len(absent) > MAX_EXAMPLES else ''
            lines.append(f'{len(absent)} classes without objects (their AP is n/a): {names}{more}')
        for kind, places in self.found.items():
            label = 'ERROR' if kind in self.errors else 'warning'
            shown = ', '.join(places[:MAX_EXAMPLES])
            more = ', ...' if len(places) > MAX_EXAMPLES else ''
            lines.append(f'{label}: {kind}: {len(places)} ({shown}{more})')
        return '\n'.join(lines)


def check_dataset(dataset: BaseDataset, num_proposals: Optional[int] = None) -> DatasetReport:
    """Read all annotations and images of a data set, some through its pipeline.

    Args:
        dataset (BaseDataset): Of MMDetection, without a wrapper.
        num_proposals (int, optional): Of the model; images with more objects
            are told.
    """
    classes = dataset.metainfo['classes']
    report = DatasetReport(by_class=dict.fromkeys(classes, 0))
    paths: Counter = Counter()
    crowded, readable = [], {}
    stops = getattr(dataset, 'on_bad_image', 'stop') == 'stop'
    ends_inside = getattr(dataset, 'BOXES_END_INSIDE', True)
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        name = osp.basename(info['img_path'])
        report.images += 1
        paths[info['img_path']] += 1
        height, width = info['height'], info['width']
        try:
            notes = read_image(info['img_path'], (height, width))[1]
            readable[index] = (width, height, len(info['instances']))
            for kind in notes:
                report.note(kind, name)
        except FileNotFoundError:
            report.note('image that does not exist', info['img_path'], stops)
        except WrongSize as error:
            sizes = str(error).split(': its')[0].split(name)[-1]
            found = sizes.replace(', its annotation says', ' instead of').replace(' is ', ': ', 1)
            report.note('image of another size than annotated', f'{name}{found}', stops)
        except BadImage as error:
            reason = str(error).split(': replace the file')[0].split(name)[-1].strip()
            report.note('unreadable image', f'{name} {reason}', stops)
        if min(height, width) < 32:
            report.note('image with a side below 32 pixels', name)
        before = report.objects
        _check_boxes(report, info['instances'], classes, name, (height, width), ends_inside)
        if num_proposals and report.objects - before > num_proposals:
            crowded.append((report.objects - before, name))
    for count, name in sorted(crowded, reverse=True):
        report.note(
            f'image with more objects than proposals ({num_proposals}; raise '
            'num_proposals of model.train_cfg and model.test_cfg)',
            f'{name}: {count}',
        )
    for path, count in paths.items():
        if count > 1:
            report.note('image that stands twice', osp.basename(path))
    _check_pipeline(report, dataset, readable)
    return report


def _check_boxes(
    report: DatasetReport,
    instances: Sequence[dict],
    classes: Sequence[str],
    name: str,
    size: Sequence[int],
    ends_inside: bool,
) -> None:
    seen = set()
    height, width = size
    for instance in instances:
        if instance.get('ignore_flag'):
            report.ignored += 1
            continue
        report.objects += 1
        label, box = instance['bbox_label'], np.asarray(instance['bbox'])
        report.by_class[classes[label]] += 1
        place = f'{name} {np.round(box, 1).tolist()}'
        if (box[2:] <= box[:2]).any():
            report.note('box without area', place)
        elif (box[2:] - box[:2] < 1).any():
            report.note('box below a pixel', place)
        # VOC's boxes may end a pixel outside
        if ends_inside and ((box[:2] < -1).any() or box[2] > width + 1 or box[3] > height + 1):
            report.note('box out of the image', place)
        key = (label, *box.tolist())
        if key in seen:
            report.note('box that stands twice', place)
        seen.add(key)
    if not instances:
        report.note('image without objects', name)


def _check_pipeline(report: DatasetReport, dataset: BaseDataset, readable: dict) -> None:
    """Put extreme images through the transforms: narrow, small, large, crowded."""
    if not readable:
        return
    extremes = {
        pick(readable, key=lambda i: measure(*readable[i]))
        for measure in (
            lambda w, h, n: w / h,
            lambda w, h, n: w * h,
            lambda w, h, n: n,
        )
        for pick in (min, max)
    }
    for index in sorted(extremes):
        info = dataset.get_data_info(index)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')  # of what has been noted
                dataset.prepare_data(index)
        except Exception as error:  # depends on the transforms
            report.note(
                'image that the pipeline fails on',
                f'{osp.basename(info["img_path"])}: {type(error).__name__} {error}',
                error=True,
            )
