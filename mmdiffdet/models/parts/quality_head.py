"""Predicted quality of a box."""

import torch
from torch import Tensor, nn

from ...registry import MODELS
from .box_vector import box_vector, full_precision


@MODELS.register_module()
class QualityHead(nn.Module):
    """One logit a proposal: the IoU its box will have, an output part.

    A network of (time-modulated features, output box, t). Features and box
    are detached in training. Its last layer starts at zero.

    Args:
        feat_channels (int): d.
        num_classes (int): K; not read.
        hidden_dim (int): Width of the network. Defaults to 256.
        include_t (bool): Whether t is an input.
        use_log_wh (bool): Whether the box vector has log sides.
        num_train_timesteps (int): T.
    """

    name = optim_part = 'quality'

    def __init__(
        self,
        feat_channels: int,
        num_classes: int,
        hidden_dim: int = 256,
        include_t: bool = True,
        use_log_wh: bool = True,
        num_train_timesteps: int = 1000,
    ) -> None:
        super().__init__()
        self.include_t = include_t
        self.use_log_wh = use_log_wh
        self.num_train_timesteps = num_train_timesteps
        self.mlp = nn.Sequential(
            nn.Linear(feat_channels + 4 + include_t, hidden_dim),
            nn.SiLU(),
            nn.Linear(hidden_dim, 1),
        )

    def init_weights(self) -> None:
        """The last layer starts at zero."""
        nn.init.zeros_(self.mlp[-1].weight)
        nn.init.zeros_(self.mlp[-1].bias)

    def forward(self, modulated: Tensor, boxes: Tensor, t: Tensor) -> Tensor:
        """(B, N, d), (B, N, 4) xyxy in pixels and (B,) to (B, N) logits."""
        if self.training:
            modulated, boxes = modulated.detach(), boxes.detach()
        inputs = [modulated.float(), box_vector(boxes.float(), self.use_log_wh)]
        if self.include_t:
            time = t.float() / (self.num_train_timesteps - 1)
            inputs.append(time[:, None, None].expand(-1, boxes.size(1), 1))
        with full_precision(boxes):
            return self.mlp(torch.cat(inputs, -1)).squeeze(-1)
