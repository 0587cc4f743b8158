"""Box renewal."""

from torch import Tensor

from ..registry import TASK_UTILS
from .prediction import Prediction


@TASK_UTILS.register_module()
class BoxRenewal:
    """Name the proposals that begin anew from noise at the next step.

    (DiffusionDet, arXiv 2211.09788, sec. 3.4)

    Args:
        score_thr (float): Proposals whose best class score is at most this
            are renewed. Defaults to 0.5.
    """

    def __init__(self, score_thr: float = 0.5) -> None:
        if not 0 <= score_thr <= 1:
            raise ValueError(f'BoxRenewal: score_thr must be in [0, 1], got {score_thr}')
        self.score_thr = score_thr

    def __call__(self, prediction: Prediction) -> Tensor:
        """(B, N) bool, True where a proposal is renewed."""
        return prediction.logits.sigmoid().amax(-1) <= self.score_thr
