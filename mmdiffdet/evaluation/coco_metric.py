"""COCO's box metrics, not rounded and the same for every way of writing ids."""

import contextlib
import io
import json
import os.path as osp
import tempfile
from collections import OrderedDict
from typing import Any, Dict, Hashable, List, Optional, Sequence, Tuple

import mmdet.evaluation
import numpy as np
from mmdet.datasets.api_wrappers import COCO, COCOeval
from mmengine.fileio import load
from mmengine.logging import MMLogger

from ..datasets.coco_file import api_of, read_coco
from ..datasets.loading import repeated, require_file
from ..registry import METRICS

STATS = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')


@METRICS.register_module()
class CocoMetric(mmdet.evaluation.CocoMetric):
    """MMDetection's for boxes, with three differences.

    Values are not rounded to three decimals; all of them are of the 100 best
    detections of an image, as COCO defines them; labels are positions in the
    data set's ``metainfo.classes``, whatever the order in the file and however
    its ids are written.

    A value is -1 where there is no object to find.

    Args:
        ann_file (str, optional): In COCO format; annotations may be missing. By
            default ground truth comes from the data set.
        metric (str): ``'bbox'``; masks and proposals are not evaluated.
        proposal_nums (Sequence[int]): Three rising numbers of detections an image,
            100 among them. As in COCO (and MMDetection) ``mAP`` is of 100, the
            other precisions of the last one, ``AR@n`` of each. Defaults to
            (1, 10, 100), COCO's.
        iou_thrs (float | Sequence[float], optional): IoU thresholds of ``mAP`` and
            ``AR``; ``mAP_50`` and ``mAP_75`` are -1 without theirs. Defaults to
            0.5 to 0.95 in steps of 0.05.
        metric_items (Sequence[str], optional): Which values are given, ``mAP``,
            ``mAP_50``, ..., ``AR@100``, ``AR_s@100``, ... By default all
            precisions.
        kwargs: Arguments of MMDetection's ``CocoMetric``.

    Raises:
        ValueError: If an option has a value that would have no effect.
    """

    def __init__(
        self,
        ann_file: Optional[str] = None,
        metric: Any = 'bbox',
        proposal_nums: Sequence[int] = (1, 10, 100),
        iou_thrs: Any = None,
        metric_items: Optional[Sequence[str]] = None,
        **kwargs: Any,
    ) -> None:
        refuse_other_metrics('CocoMetric', metric)
        nums = list(proposal_nums) if isinstance(proposal_nums, (list, tuple)) else []
        if len(nums) != 3 or not all(type(n) is int and n > 0 for n in nums) or 100 not in nums:
            raise ValueError(
                'CocoMetric: proposal_nums must be three numbers of detections an image, 100 '
                f'(of which mAP is) among them, got {proposal_nums!r}'
            )
        thresholds = None
        if iou_thrs is not None:
            thresholds = np.atleast_1d(np.asarray(iou_thrs, dtype=object))
            fitting = [isinstance(t, (int, float)) and 0 < t <= 1 for t in thresholds]
            if not fitting or not all(fitting):
                raise ValueError(f'CocoMetric: iou_thrs must be in (0, 1], got {iou_thrs!r}')
            thresholds = thresholds.astype(float)
        nums.sort()
        recalls = [f'AR@{n}' for n in nums] + [f'AR_{size}@{nums[-1]}' for size in 'sml']
        self._names = (*STATS, *recalls)
        other = [item for item in metric_items or () if item not in self._names]
        if other or isinstance(metric_items, str):
            raise ValueError(
                f'CocoMetric: metric_items must be a list of {", ".join(self._names)}, got '
                f'{metric_items!r}'
            )
        if kwargs.get('use_mp_eval'):
            raise ValueError('CocoMetric: use_mp_eval has no effect, leave it out')
        if kwargs.get('format_only') and not kwargs.get('outfile_prefix'):
            raise ValueError('CocoMetric: format_only needs outfile_prefix, the file to write')
        kwargs.update(proposal_nums=nums, iou_thrs=thresholds, metric_items=metric_items)
        super().__init__(None, 'bbox', **kwargs)
        self.ann_file = ann_file
        if ann_file is not None:
            require_file(ann_file, 'CocoMetric')
            self._coco_api = api_of(read_coco(ann_file, False, self.backend_args))

    def compute_metrics(self, results: list) -> Dict[str, float]:
        """``bbox_mAP``, ``_50``, ``_75``, ``_s``, ``_m``, ``_l`` in 0..1.

        ``results`` are (ground truth, prediction) of each image. With ``classwise`` there
        is also ``{class}_precision``. ValueError if the annotation file is of other
        images or classes.
        """
        logger = MMLogger.get_current_instance()
        truths, predictions = zip(*results)
        with tempfile.TemporaryDirectory() as folder:
            prefix = self.outfile_prefix or osp.join(folder, 'results')
            self._prepare(truths, prefix)
            found = load(self.results2json(predictions, prefix)['bbox'])
        if self.format_only:
            logger.info(f'results are saved in {osp.dirname(prefix)}')
            return OrderedDict()
        truth, detections, places = _numbered(self._coco_api.dataset, found, self.cat_ids)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            evaluation = COCOeval(truth, detections, 'bbox')
            evaluation.params.maxDets = list(self.proposal_nums)
            evaluation.params.iouThrs = np.asarray(self.iou_thrs)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        logger.info('\n' + printed.getvalue())
        stats = dict(zip(self._names, evaluation.stats))
        values = OrderedDict(
            (f'bbox_{name}', float(stats[name])) for name in self.metric_items or STATS
        )
        if self.classwise:
            precision = evaluation.eval['precision'][..., 0, self.proposal_nums.index(100)]
            for name, place in zip(self.dataset_meta['classes'], places):
                known = precision[..., place][precision[..., place] > -1]
                values[f'{name}_precision'] = float(np.mean(known)) if len(known) else -1.0
        return values

    def _prepare(self, truths: List[dict], prefix: str) -> None:
        """Prepare the ground truth, from the data set if there was no file.

        ValueError if the file is of other images or classes, or an image stands twice.
        """
        if self._coco_api is None:
            with open(self.gt_to_coco_json(truths, outfile_prefix=prefix)) as file:
                content = json.load(file)
            content.setdefault('annotations', [])
            self._coco_api = api_of(content)
        content = self._coco_api.dataset
        by_name = {c['name']: c['id'] for c in content['categories']}
        classes = self.dataset_meta['classes']
        absent = [name for name in classes if name not in by_name]
        self.img_ids = [image['id'] for image in content['images']]
        known = set(self.img_ids)
        tested = [truth['img_id'] for truth in truths]
        other = [i for i in tested if i not in known]
        twice = repeated(tested)
        if twice:
            raise ValueError(
                f'CocoMetric: image ids {twice[:3]} were tested twice, so their objects would be '
                'mixed up: a test of several data sets needs other ids in each'
            )
        if absent or other:
            raise ValueError(
                'CocoMetric: its annotation file is not that of the data set: '
                f'it lacks categories {absent} and image ids {other[:3]}. Set '
                'ann_file of val_evaluator and test_evaluator to the file of '
                'val_dataloader and test_dataloader'
            )
        untested = len(known.difference(tested))
        if untested:
            MMLogger.get_current_instance().warning(
                f'CocoMetric: {untested} image(s) of its annotations were not tested; their '
                'objects count as missed'
            )
        self.cat_ids = [by_name[name] for name in classes]


def refuse_other_metrics(owner: str, metric: Any) -> None:
    """Raise ValueError unless ``metric`` is boxes: the owner evaluates nothing else."""
    if metric not in ('bbox', ['bbox'], ('bbox',)):
        raise ValueError(f"{owner}: metric must be 'bbox' (detections are boxes), got {metric!r}")


def _numbered(
    content: dict, found: List[dict], cat_ids: Sequence[Hashable]
) -> Tuple[COCO, COCO, List[int]]:
    """Ground truth and detections with ids 1, 2, ... in the order of the old ones.

    NumPy, which pycocotools sorts ids with, turns numbers beside text into text;
    objects of such a category or image would leave the mean. Also returns the place
    of each category of ``cat_ids``.
    """

    def number(ids: Sequence[Hashable]) -> Dict[Hashable, int]:
        ordered = sorted(ids, key=lambda i: (isinstance(i, str), i))
        return {old: new for new, old in enumerate(ordered, 1)}

    images = number([image['id'] for image in content['images']])
    categories = number(cat_ids)
    truth = dict(
        images=[dict(id=i) for i in images.values()],
        categories=[dict(id=i) for i in categories.values()],
    )

    def renamed(entries: List[dict], keys: Sequence[str]) -> List[dict]:
        return [
            dict(
                {key: entry[key] for key in keys},
                image_id=images[entry['image_id']],
                category_id=categories[entry['category_id']],
            )
            for entry in entries
            if entry['image_id'] in images and entry['category_id'] in categories
        ]

    truth['annotations'] = renamed(content['annotations'], ('id', 'bbox', 'area', 'iscrowd'))
    api = api_of(truth)
    if found:
        with contextlib.redirect_stdout(io.StringIO()):
            detections = api.loadRes(renamed(found, ('bbox', 'score')))
    else:  # loadRes fails without detections
        detections = api_of(dict(truth, annotations=[]))
    return api, detections, [categories[c] - 1 for c in cat_ids]
