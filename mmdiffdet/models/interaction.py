"""How proposals see each other."""

import math
from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..registry import MODELS
from .groups import in_groups


@MODELS.register_module()
class SelfAttention(nn.MultiheadAttention):
    """Multi-head attention among the proposals of an image.

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
            bias = bias.to(q.dtype).expand(*q.shape[:3], q.size(2))
        weights = None
        if q.is_cuda and not need_weights:
            attended = F.scaled_dot_product_attention(q, k, v, bias)
        elif torch.is_grad_enabled() or need_weights:
            attended, weights = _attend(q, k, v, bias)
        else:
            row_bytes = q.size(1) * q.size(2) ** 2 * q.element_size()
            attended = in_groups(lambda *x: _attend(*x)[0], row_bytes, q, k, v, bias)
        attended = self.out_proj(attended.transpose(1, 2).flatten(2))
        return attended, weights.mean(1) if need_weights else None

    def _heads(self, x: Tensor) -> Tensor:
        """(B, N, heads * c) to (B, heads, N, c)."""
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Optional[Tensor]) -> Tuple[Tensor, Tensor]:
    """Scaled dot-product attention (arXiv 1706.03762, eq. 1) and its weights.

    In plain steps: where the fused kernel cannot differentiate a bias PyTorch
    would take another kernel with a bias than without one, and in testing on
    CPUs the fused kernel is slower (500 proposals, two threads: by a quarter
    in float32, by two thirds in bfloat16).
    """
    logits = (q / math.sqrt(q.size(-1))) @ k.transpose(-2, -1)
    if bias is not None:
        logits = logits + bias
    if torch.is_grad_enabled():
        weights = logits.softmax(-1)
    else:
        weights = torch.softmax(logits, -1, out=logits)
    return weights @ v, weights


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
