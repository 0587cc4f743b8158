"""How proposals see each other."""

import math
from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..registry import MODELS


@MODELS.register_module()
class SelfAttention(nn.MultiheadAttention):
    """Multi-head attention among the proposals of an image.

    (arXiv 1706.03762, sec. 3.2) PyTorch's own module has no term for queries
    and keys alone, and takes another way to the result with a bias than
    without one. ``mmdiffdet.fast`` replaces ``attend`` in tests and trainings.

    Args:
        feat_channels (int): d.
        num_heads (int): Attention heads. Defaults to 8.
    """

    def __init__(self, feat_channels: int, num_heads: int = 8) -> None:
        super().__init__(feat_channels, num_heads, batch_first=True)

    def forward(
        self,
        features: Tensor,
        position: Optional[Tensor] = None,
        bias: Optional[Tensor] = None,
        need_weights: bool = False,
    ) -> Tuple[Tensor, Optional[Tensor]]:
        """Attend.

        Args:
            features (Tensor): (B, N, d), the values.
            position (Tensor, optional): (B, N, d), added to queries and keys.
            bias (Tensor, optional): Added to the attention logits,
                broadcastable to (B, heads, N, N).
            need_weights (bool): Whether to return the weights.

        Returns:
            tuple: (B, N, d) and (B, N, N) weights averaged over heads, or
            None.
        """
        query = features if position is None else features + position
        weight, offset = self.in_proj_weight, self.in_proj_bias
        d = self.embed_dim
        q, k = self._heads(F.linear(query, weight[: 2 * d], offset[: 2 * d])).chunk(2, dim=1)
        v = self._heads(F.linear(features, weight[2 * d :], offset[2 * d :]))
        if bias is not None:
            bias = bias.to(q.dtype)
        attended, weights = self.attend(q, k, v, bias, need_weights)
        attended = self.out_proj(attended.transpose(1, 2).flatten(2))
        return attended, weights.mean(1) if need_weights else None

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, bias: Optional[Tensor], need_weights: bool
    ) -> Tuple[Tensor, Optional[Tensor]]:
        """softmax(q k^T / sqrt(c) + bias) v (eq. 1), and the softmax.

        Args:
            q (Tensor): (B, heads, N, c).
            k (Tensor): (B, heads, N, c).
            v (Tensor): (B, heads, N, c).
            bias (Tensor, optional): Broadcastable to (B, heads, N, N).
            need_weights (bool): Whether the second result is read.
        """
        logits = (q / math.sqrt(q.size(-1))) @ k.transpose(-2, -1)
        if bias is not None:
            logits = logits + bias
        weights = logits.softmax(-1)
        return weights @ v, weights

    def _heads(self, x: Tensor) -> Tensor:
        """(B, N, heads * c) to (B, heads, N, c)."""
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)


@MODELS.register_module()
class NoInteraction(nn.Module):
    """Ablation: proposals do not see each other, the output is 0.

    Takes the arguments of :class:`SelfAttention` and has no weights.
    """

    def __init__(self, feat_channels: int, num_heads: int = 8) -> None:
        super().__init__()

    def forward(
        self,
        features: Tensor,
        position: Optional[Tensor] = None,
        bias: Optional[Tensor] = None,
        need_weights: bool = False,
    ) -> Tuple[Tensor, Optional[Tensor]]:
        """(B, N, d) zeros; there are no weights to return."""
        return torch.zeros_like(features), None
