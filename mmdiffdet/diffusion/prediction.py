"""What the network says at one step of the reverse process."""

from dataclasses import dataclass
from typing import Callable, Optional

from torch import Tensor


@dataclass
class Prediction:
    """Output of ``denoise(boxes, label_state, t)``.

    Args:
        boxes (Tensor): (B, N, 4), xyxy in pixels.
        logits (Tensor): (B, N, K), class logits.
        quality (Tensor, optional): (B, N), quality logits.
        quality_of (Callable, optional): (B, N, 4) boxes to (B, N) quality
            logits with everything else fixed, for guidance.
    """

    boxes: Tensor
    logits: Tensor
    quality: Optional[Tensor] = None
    quality_of: Optional[Callable[[Tensor], Tensor]] = None
