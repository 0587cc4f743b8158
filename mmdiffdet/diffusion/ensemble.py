"""Which steps' predictions become detections."""

from typing import List

from ..registry import TASK_UTILS
from .prediction import Prediction


@TASK_UTILS.register_module()
class StepEnsemble:
    """Merge the predictions of all steps (they go through one NMS).

    Args:
        include_last (bool): Whether the last step takes part where there are
            several; the original DiffusionDet leaves it out. Defaults to
            True.
    """

    def __init__(self, include_last: bool = True) -> None:
        self.include_last = include_last

    def __call__(self, predictions: List[Prediction]) -> List[Prediction]:
        """The predictions to merge, of those of all steps in order."""
        if self.include_last or len(predictions) == 1:
            return predictions
        return predictions[:-1]
