"""COCO's box metrics as numbers that can be compared."""

import contextlib
import io
import os.path as osp
import tempfile
from collections import OrderedDict
from typing import Dict, List

import mmdet.evaluation
import numpy as np
from mmdet.datasets.api_wrappers import COCO, COCOeval
from mmengine.fileio import load
from mmengine.logging import MMLogger

from ..registry import METRICS

STATS = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')


@METRICS.register_module()
class CocoMetric(mmdet.evaluation.CocoMetric):
    """MMDetection's for boxes, with three differences.

    Values are not rounded to three decimals; all of them are of the 100 best
    detections of an image, as COCO defines them; labels are positions in the
    data set's ``metainfo.classes``, whatever the order in the file.

    A value is -1 where there is no object to find.
    """

    def compute_metrics(self, results: list) -> Dict[str, float]:
        """``bbox_mAP``, ``_50``, ``_75``, ``_s``, ``_m``, ``_l`` in 0..1.

        With ``classwise`` also ``{class}_precision``.

        Args:
            results (list): (ground truth, prediction) of each image.
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
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            evaluation = COCOeval(self._coco_api, self._as_coco(found), 'bbox')
            evaluation.params.catIds = self.cat_ids
            evaluation.params.imgIds = self.img_ids
            evaluation.params.maxDets = [1, 10, 100]
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        logger.info('\n' + printed.getvalue())
        values = OrderedDict(
            (f'bbox_{name}', float(value)) for name, value in zip(STATS, evaluation.stats)
        )
        if self.classwise:
            precision = evaluation.eval['precision'][..., 0, -1]
            # evaluate() has sorted the categories
            order = list(evaluation.params.catIds)
            for name, category in zip(self.dataset_meta['classes'], self.cat_ids):
                i = order.index(category)
                known = precision[..., i][precision[..., i] > -1]
                values[f'{name}_precision'] = float(np.mean(known)) if len(known) else -1.0
        return values

    def _prepare(self, truths: List[dict], prefix: str) -> None:
        """Ground truth, from the data set if there was no file.

        Raises:
            ValueError: If the file is of other images or classes.
        """
        if self._coco_api is None:
            with contextlib.redirect_stdout(io.StringIO()):
                self._coco_api = COCO(self.gt_to_coco_json(truths, outfile_prefix=prefix))
        api = self._coco_api
        for annotation in api.dataset['annotations']:
            annotation.setdefault('iscrowd', 0)  # as in training
        by_name = {c['name']: c['id'] for c in api.dataset['categories']}
        classes = self.dataset_meta['classes']
        absent = [name for name in classes if name not in by_name]
        self.img_ids = api.get_img_ids()
        known = set(self.img_ids)
        other = [t['img_id'] for t in truths if t['img_id'] not in known]
        if absent or other:
            raise ValueError(
                'CocoMetric: its annotation file is not that of the data set: '
                f'it lacks categories {absent} and image ids {other[:3]}. Set '
                'ann_file of val_evaluator and test_evaluator to the file of '
                'val_dataloader and test_dataloader'
            )
        self.cat_ids = [by_name[name] for name in classes]

    def _as_coco(self, found: List[dict]) -> COCO:
        if found:
            return self._coco_api.loadRes(found)
        empty = COCO()  # loadRes fails without detections
        empty.dataset = dict(
            images=self._coco_api.dataset['images'],
            categories=self._coco_api.dataset['categories'],
            annotations=[],
        )
        empty.createIndex()
        return empty
