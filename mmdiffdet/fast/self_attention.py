"""Attention by a fused kernel, or in place."""

import math
from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.interaction import SelfAttention
from .groups import in_groups


class FastSelfAttention(SelfAttention):
    """On GPUs PyTorch's fused kernel, in testing on CPUs some images at a time.

    On CPUs the fused kernel is slower in testing (500 proposals, two threads:
    by a quarter in float32, by two thirds in bfloat16), and cannot
    differentiate a bias: PyTorch would take another kernel with a bias than
    without one.
    """

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, bias: Optional[Tensor], need_weights: bool
    ) -> Tuple[Tensor, Optional[Tensor]]:
        """See the parent; without ``need_weights`` the weights may be None."""
        if q.is_cuda and not need_weights:
            return F.scaled_dot_product_attention(q, k, v, bias), None
        if torch.is_grad_enabled() or need_weights:
            return super().attend(q, k, v, bias, need_weights)
        if bias is not None:
            bias = bias.expand(*q.shape[:3], q.size(2))
        row_bytes = q.size(1) * q.size(2) ** 2 * q.element_size()
        return in_groups(_in_place, row_bytes, q, k, v, bias), None


def _in_place(q: Tensor, k: Tensor, v: Tensor, bias: Optional[Tensor]) -> Tensor:
    logits = (q / math.sqrt(q.size(-1))) @ k.transpose(-2, -1)
    if bias is not None:
        logits = logits + bias
    return torch.softmax(logits, -1, out=logits) @ v
