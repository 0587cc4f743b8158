"""The head with its features, as the reverse process calls it."""

from functools import partial
from typing import TYPE_CHECKING, Optional, Sequence, Union

import torch
from torch import Tensor

from ..diffusion.prediction import Prediction
from .roi_gather import FeatureTable

if TYPE_CHECKING:
    from .head import DiffusionDetHead


class Denoiser:
    """Noisy boxes to the boxes without noise that the head predicts.

    Args:
        head (DiffusionDetHead): Its last stage is what counts.
        table (FeatureTable | Sequence[Tensor]): Of ``head.tabulate``.
    """

    def __init__(
        self, head: 'DiffusionDetHead', table: Union[FeatureTable, Sequence[Tensor]]
    ) -> None:
        self.head = head
        self.table = table

    def __call__(
        self,
        boxes: Tensor,
        label_state: Optional[Tensor],
        t: Union[int, Tensor],
        num_stages: Optional[int] = None,
        repeated_stages: int = 0,
    ) -> Prediction:
        """One step.

        Args:
            boxes (Tensor): (B, N, 4), xyxy in pixels.
            label_state (Tensor, optional): (B, N) ids or (B, N, K + 1).
            t (int | Tensor): The timestep of all images, one number.
            num_stages (int, optional): The cascade ends after so many.
            repeated_stages (int): So many of its last stages run once more.
        """
        # a number of the host, as schedulers hold their timesteps there
        t = torch.full((len(boxes),), int(t), device=boxes.device)
        output = self.head(
            self.table,
            boxes,
            t,
            label_state,
            all_stages=False,
            num_stages=num_stages,
            repeated_stages=repeated_stages,
        )
        prediction = Prediction(output.boxes[-1], output.logits[-1])
        quality_head = self.head.output_part('quality', num_stages)
        if quality_head is not None:
            prediction.quality = output.extras['quality'][-1]
            prediction.quality_of = partial(_quality, quality_head, output.modulated, t)
        return prediction


def _quality(quality_head: torch.nn.Module, modulated: Tensor, t: Tensor, boxes: Tensor) -> Tensor:
    """Quality logits of boxes that were moved, (B, N)."""
    return quality_head(modulated, boxes, t)
