"""LVIS's box metrics, not rounded."""

import logging
import os.path as osp
import tempfile
from collections import OrderedDict
from typing import Any, Dict, List, Optional, Sequence
from unittest.mock import patch

import mmdet.evaluation
import numpy as np
from mmengine.fileio import load
from mmengine.logging import MMLogger

from ..datasets.loading import require_file
from ..datasets.lvis import lvis_api, read_lvis
from ..registry import METRICS
from .coco_metric import refuse_other_metrics


@METRICS.register_module()
class LVISMetric(mmdet.evaluation.LVISMetric):
    """LVIS's own evaluation of boxes, not rounded, 300 detections an image.

    A value is -1 where there is no object to find.

    Args:
        ann_file (str): The annotations in LVIS's format.
        metric (str): ``'bbox'``; masks and proposals are not evaluated.
        metric_items (Sequence[str], optional): Which values are given, ``AP``,
            ``AP50``, ``APr``, ... or a recall such as ``AR@300``. Defaults to all.
        kwargs: As of MMDetection's ``LVISMetric``, without ``proposal_nums`` and
            ``iou_thrs``, which LVIS defines.

    Raises:
        ValueError: If an option has a value that would have no effect.
    """

    def __init__(
        self,
        ann_file: str,
        metric: Any = 'bbox',
        metric_items: Optional[Sequence[str]] = None,
        **kwargs: Any,
    ) -> None:
        refuse_other_metrics('LVISMetric', metric)
        fixed = [key for key in ('proposal_nums', 'iou_thrs') if kwargs.get(key) is not None]
        if fixed:
            raise ValueError(
                f'LVISMetric: {", ".join(fixed)} would have no effect: LVIS defines it'
            )
        if kwargs.get('format_only') and not kwargs.get('outfile_prefix'):
            raise ValueError('LVISMetric: format_only needs outfile_prefix, the file to write')
        if isinstance(metric_items, str):
            raise ValueError(f'LVISMetric: metric_items must be a list, got {metric_items!r}')
        require_file(ann_file, 'LVISMetric')
        content = read_lvis(ann_file, kwargs.get('backend_args'))
        super().__init__(None, 'bbox', metric_items=metric_items, **kwargs)
        self.ann_file = ann_file
        self._lvis_api = lvis_api(content)

    def compute_metrics(self, results: list) -> Dict[str, float]:
        """Average precisions such as ``bbox_APr`` and recalls, in 0..1.

        ``results`` are (ground truth, prediction) of each image. With ``classwise`` there
        is also ``{class}_precision``. ValueError if the annotation file is of other
        images, or an item of ``metric_items`` is not known.
        """
        from lvis import LVISEval

        truths, predictions = zip(*results)
        self.cat_ids = sorted(self._lvis_api.get_cat_ids())  # as the data set's labels
        self.img_ids = [truth['img_id'] for truth in truths]
        other = [i for i in self.img_ids if i not in self._lvis_api.imgs]
        if other:
            raise ValueError(
                f'LVISMetric: {self.ann_file} lacks image ids {other[:3]} of the data set. Set '
                'ann_file of val_evaluator and test_evaluator to its file'
            )
        with tempfile.TemporaryDirectory() as folder:
            prefix = self.outfile_prefix or osp.join(folder, 'results')
            found = load(self.results2json(predictions, prefix)['bbox'])
        if self.format_only:
            return OrderedDict()
        # the package still says np.float, which numpy has dropped
        with patch.object(np, 'float', float, create=True):
            evaluation = LVISEval(self._lvis_api, self._detections(found), 'bbox')
            evaluation.params.img_ids = self.img_ids
            evaluation.run()
        values = evaluation.get_results()
        other = [item for item in self.metric_items or () if item not in values]
        if other:
            raise ValueError(f'LVISMetric: metric_items {other} are not among {", ".join(values)}')
        text = ', '.join(f'{k} {v:.4f}' for k, v in values.items())
        MMLogger.get_current_instance().info(f'LVIS: {text}')
        given = OrderedDict((f'bbox_{k}', float(values[k])) for k in self.metric_items or values)
        if self.classwise:
            precision = evaluation.eval['precision']  # (IoU, recall, class, area)
            for i, name in enumerate(self.dataset_meta['classes']):
                known = precision[:, :, i, 0][precision[:, :, i, 0] > -1]
                given[f'{name}_precision'] = float(np.mean(known)) if len(known) else -1.0
        return given

    def _detections(self, found: List[dict]) -> Any:
        from lvis import LVISResults

        if found:
            logging.getLogger('lvis.results').setLevel('ERROR')  # that it trusts the format
            return LVISResults(self._lvis_api, found)
        empty = LVISResults.__new__(LVISResults)  # which fails without detections
        empty.logger = self._lvis_api.logger
        empty.dataset = dict(self._lvis_api.dataset, annotations=[])
        empty._create_index()
        return empty
