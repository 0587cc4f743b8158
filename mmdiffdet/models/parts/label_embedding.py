"""Label state in the proposal features."""

import torch
from torch import Tensor, nn

from ...registry import MODELS
from ..structures import StageContext

_GATE_LOGIT = torch.logit(torch.tensor(0.1)).item()


@MODELS.register_module()
class LabelEmbedding(nn.Module):
    """scale sigmoid(a) Proj(Emb(state)), a feature part.

    The gate sigmoid(a) starts at 0.1, the projection at 0. A distribution is
    embedded as its expectation.

    Args:
        feat_channels (int): d.
        num_classes (int): K; the state K is "unknown".
        scale (float): Defaults to 0.1.
        relative_to_unk (bool): Subtract the same for "unknown".
    """

    name = 'label_state'

    def __init__(
        self,
        feat_channels: int,
        num_classes: int,
        scale: float = 0.1,
        relative_to_unk: bool = False,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.relative_to_unk = relative_to_unk
        self.embed = nn.Embedding(num_classes + 1, feat_channels)
        self.proj = nn.Linear(feat_channels, feat_channels)
        self.gate = nn.Parameter(torch.empty(()))

    def init_weights(self) -> None:
        """The projection starts at zero, the gate at 0.1."""
        nn.init.zeros_(self.proj.weight)
        nn.init.zeros_(self.proj.bias)
        nn.init.constant_(self.gate, _GATE_LOGIT)

    def forward(self, context: StageContext) -> Tensor:
        """(B, N, d) term.

        Raises:
            ValueError: If there is no label state.
        """
        state = context.label_state
        if state is None:
            raise ValueError('LabelEmbedding needs model.label_scheduler')
        if state.is_floating_point():
            embedded = state @ self.embed.weight
        else:
            embedded = self.embed(state)
        term = self.proj(embedded)
        if self.relative_to_unk:
            term = term - self.proj(self.embed.weight[-1])
        return self.scale * self.gate.sigmoid() * term
