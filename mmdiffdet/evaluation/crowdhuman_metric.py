"""CrowdHuman's metrics on the annotations that the data set reads."""

import json
import tempfile
from pathlib import Path
from typing import Any, Dict

import mmdet.evaluation

from ..datasets.crowdhuman import read_odgt
from ..datasets.loading import require_file
from ..registry import METRICS


@METRICS.register_module()
class CrowdHumanMetric(mmdet.evaluation.CrowdHumanMetric):
    """MMDetection's metric, which reads and checks ``ann_file`` before a test, not after it.

    Head boxes may be missing unless ``eval_mode`` asks for them. ``kwargs`` are
    arguments of MMDetection's ``CrowdHumanMetric``.
    """

    def __init__(self, ann_file: str, **kwargs: Any) -> None:
        require_file(ann_file, 'CrowdHumanMetric')
        super().__init__(ann_file, **kwargs)
        self._records = read_odgt(ann_file, self.backend_args)
        for record in self._records:
            for box in record['gtboxes']:
                if self.eval_mode != 0 and 'hbox' not in box:
                    raise ValueError(f'{ann_file}:{record["line"]}: a box without hbox')
                box.setdefault('hbox', box['fbox'])  # read, but not used
            if not record['gtboxes']:  # which the parent fails on
                nothing = dict(tag='mask', fbox=[0, 0, 0, 0], hbox=[0, 0, 0, 0])
                record['gtboxes'] = [dict(nothing, extra=dict(ignore=1))]

    def load_eval_samples(self, result_file: str) -> Dict[str, Any]:
        """Ground truth, and detections as ``results2json`` has written them, of each image.

        ValueError if they are of other images, or in another order.
        """
        found = [record['ID'] for record in json.loads(Path(result_file).read_text())]
        expected = [record['ID'] for record in self._records]
        if found != expected:
            raise ValueError(
                f'CrowdHumanMetric: {self.ann_file} does not have the images of the data set in '
                'their order; set ann_file of the evaluator to the file of the data loader'
            )
        path = self.ann_file
        with tempfile.TemporaryDirectory() as folder:
            self.ann_file = f'{folder}/ground_truth.odgt'
            text = '\n'.join(json.dumps(record) for record in self._records)
            Path(self.ann_file).write_text(text)
            try:
                return super().load_eval_samples(result_file)
            finally:
                self.ann_file = path
