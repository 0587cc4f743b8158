"""LVIS's box metrics as numbers that can be compared."""

import os.path as osp
import tempfile
from collections import OrderedDict
from typing import Dict
from unittest.mock import patch

import mmdet.evaluation
import numpy as np
from mmengine.fileio import load
from mmengine.logging import MMLogger

from ..registry import METRICS


@METRICS.register_module()
class LVISMetric(mmdet.evaluation.LVISMetric):
    """LVIS's own evaluation of boxes, not rounded, 300 detections an image.

    A value is -1 where there is no object to find.
    """

    def compute_metrics(self, results: list) -> Dict[str, float]:
        """``bbox_AP``, ``AP50``, ``AP75``, ``APs``, ``APm``, ``APl``, ``APr``,
        ``APc``, ``APf`` and recalls, in 0..1.

        Args:
            results (list): (ground truth, prediction) of each image.
        """
        from lvis import LVISEval, LVISResults

        truths, predictions = zip(*results)
        self.cat_ids = self._lvis_api.get_cat_ids()
        self.img_ids = [truth['img_id'] for truth in truths]
        with tempfile.TemporaryDirectory() as folder:
            prefix = self.outfile_prefix or osp.join(folder, 'results')
            found = load(self.results2json(predictions, prefix)['bbox'])
        if self.format_only:
            return OrderedDict()
        # the package still says np.float, which numpy has dropped
        with patch.object(np, 'float', float, create=True):
            evaluation = LVISEval(self._lvis_api, LVISResults(self._lvis_api, found), 'bbox')
            evaluation.params.img_ids = self.img_ids
            evaluation.run()
        values = evaluation.get_results()
        text = ', '.join(f'{k} {v:.4f}' for k, v in values.items())
        MMLogger.get_current_instance().info(f'LVIS: {text}')
        return OrderedDict((f'bbox_{k}', float(v)) for k, v in values.items())
