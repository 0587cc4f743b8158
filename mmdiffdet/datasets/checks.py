"""Find what is wrong with a data set before a training does."""

import os.path as osp
import re
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

    ``images`` are counted after filtering; ``objects`` are boxes to train on or to
    find, ``ignored`` the others. ``found`` holds the places of each kind of
    finding; ``errors`` are the kinds with which training or testing would stop, or
    learn from wrong places.
    """

    images: int = 0
    objects: int = 0
    ignored: int = 0
    by_class: Dict[str, int] = field(default_factory=dict)
    found: Dict[str, List[str]] = field(default_factory=dict)
    errors: Set[str] = field(default_factory=set)

    def note(self, kind: str, where: str, error: bool = False) -> None:
        """Add a finding of a kind at a place."""
        self.found.setdefault(kind, []).append(where)
        if error:
            self.errors.add(kind)

    @property
    def failed(self) -> bool:
        """Whether training or testing would stop or learn from wrong places."""
        return bool(self.errors)

    def text(self) -> str:
        """The report for printing, one fact a line."""
        lines = [f'{self.images} images, {self.objects} objects, {self.ignored} ignored']
        width = max(map(len, self.by_class), default=0)
        shown = self.by_class.items()
        if len(self.by_class) > 30:
            shown = Counter(self.by_class).most_common(10)
            lines.append(f'{len(self.by_class)} classes, the most frequent:')
        lines += [f'  {name:{width}} {count}' for name, count in shown]
        absent = [name for name, n in self.by_class.items() if n == 0]
        if absent:
            lines.append(
                f'{len(absent)} classes without objects (their AP is n/a): {_first(absent)}'
            )
        for kind, places in self.found.items():
            label = 'ERROR' if kind in self.errors else 'warning'
            lines.append(f'{label}: {kind}: {len(places)} ({_first(places)})')
        return '\n'.join(lines)


def _first(names: List[str]) -> str:
    return ', '.join([*names[:MAX_EXAMPLES], *(['...'] if len(names) > MAX_EXAMPLES else [])])


def check_dataset(dataset: BaseDataset, num_proposals: Optional[int] = None) -> DatasetReport:
    """Read all annotations and images of a data set, some through its pipeline.

    ``dataset`` has no wrapper; images with more objects than the model's
    ``num_proposals`` are reported.
    """
    classes = dataset.metainfo['classes']
    report = DatasetReport(by_class=dict.fromkeys(classes, 0))
    paths: Counter = Counter()
    crowded, readable = [], {}
    stops = getattr(dataset, 'on_bad_image', 'stop') == 'stop'
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
        except BadImage as error:
            # the error without the way out, and with the name in place of the path
            reason = re.split(': replace the file|: its boxes', str(error))[0].split(name)[-1]
            kind = 'unreadable image'
            if isinstance(error, WrongSize):
                kind = 'image of another size than annotated'
                reason = re.sub(' is (.*), its annotation says', r': \1 instead of', reason)
            report.note(kind, f'{name}{reason}', stops)
        if min(height, width) < 32:
            report.note('image with a side below 32 pixels', name)
        before = report.objects
        _check_boxes(report, info, classes, name, getattr(dataset, 'BOXES_END_INSIDE', True))
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
    report: DatasetReport, info: dict, classes: Sequence[str], name: str, ends_inside: bool
) -> None:
    seen = set()
    height, width = info['height'], info['width']
    for instance in info['instances']:
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
    if not info['instances']:
        report.note('image without objects', name)


def _check_pipeline(report: DatasetReport, dataset: BaseDataset, readable: dict) -> None:
    """Put extreme images through the transforms: narrow, small, large, crowded."""
    measures = (lambda w, h, n: w / h, lambda w, h, n: w * h, lambda w, h, n: n)
    extremes = {
        pick(readable, key=lambda i: measure(*readable[i]))
        for measure in (measures if readable else ())
        for pick in (min, max)
    }
    for index in sorted(extremes):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')  # of what has been noted
                dataset.prepare_data(index)
        except Exception as error:  # depends on the transforms
            name = osp.basename(dataset.get_data_info(index)['img_path'])
            where = f'{name}: {type(error).__name__} {error}'
            report.note('image that the pipeline fails on', where, error=True)
