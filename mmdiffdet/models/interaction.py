"""How proposals see each other."""
from typing import Optional, Tuple

import torch
from torch import Tensor, nn

from ..registry import MODELS


@MODELS.register_module()
class SelfAttention(nn.MultiheadAttention):
    """Multi-head attention among the proposals of an image.

    Args:
        feat_channels (int): d.
        num_heads (int): Attention heads. Defaults to 8.
    """

    def __init__(self, feat_channels: int, num_heads: int = 8) -> None:
        super().__init__(feat_channels, num_heads, batch_first=True)

    def forward(self,
                features: Tensor,
                position: Optional[Tensor] = None,
                bias: Optional[Tensor] = None,
                need_weights: bool = False) -> Tuple[Tensor, Optional[Tensor]]:
        """Attend.

        Args:
            features (Tensor): (B, N, d), the values.
            position (Tensor, optional): (B, N, d), added to queries and keys.
            bias (Tensor, optional): Added to the attention logits,
                broadcastable to (B, heads, N, N).
            need_weights (bool): Whether to return the weights; without them
                the fused kernel is used.

        Returns:
            tuple: (B, N, d) and (B, N, N) weights averaged over heads, or
            None.
        """
        query = features if position is None else features + position
        if bias is not None:
            batch, num, _ = features.shape
            bias = bias.to(query.dtype).expand(batch, self.num_heads, num, num)
            bias = bias.reshape(-1, num, num)
        return super().forward(
            query,
            query,
            features,
            attn_mask=bias,
            need_weights=need_weights)


@MODELS.register_module()
class NoInteraction(nn.Module):
    """Ablation: proposals do not see each other, the output is 0.

    Takes the arguments of :class:`SelfAttention` and has no weights.
    """

    def __init__(self, feat_channels: int, num_heads: int = 8) -> None:
        super().__init__()

    def forward(self,
                features: Tensor,
                position: Optional[Tensor] = None,
                bias: Optional[Tensor] = None,
                need_weights: bool = False) -> Tuple[Tensor, Optional[Tensor]]:
        """(B, N, d) zeros; there are no weights to return."""
        return torch.zeros_like(features), None
