"""Geometry of pairs of boxes in the attention logits."""

from typing import Optional

import torch
from torch import Tensor, nn

from ...diffusion.time_schedule import TimeSchedule
from ...registry import MODELS
from ..structures import StageContext
from .box_vector import box_sides, full_precision, pair_vector, pairwise_iou

MODES = ('distance', 'iou', 'mlp')


@MODELS.register_module()
class GeometryBias(nn.Module):
    """A bias for each pair of proposals, an attention part.

    ``distance``: -(dist / sigma)^2 in [-10, 0], dist the distance of centres
    over the mean of the two boxes' sqrt(area). ``iou``: IoU, 0 for a proposal
    with itself. ``mlp``: tanh of a small network of the pair vector, 0 for a
    proposal with itself, which starts at 0.

    Args:
        feat_channels (int): d; not read.
        num_classes (int): K; not read.
        mode (str): ``distance``, ``iou`` or ``mlp``.
        scale (float): Factor. Defaults to 1.
        learnable_heads (int): Number of attention heads for a learned factor
            tanh(parameter) each, which starts at 0; 0 for none.
        sigma (float): Of ``distance``.
        min_norm (float): Floor, in pixels, of the divisor of dist; 0 for
            1e-6.
        hidden_dim (int): Width of the network of ``mlp``.
        include_iou (bool): Whether its input has the IoU.
        use_log_wh (bool): Whether its input has log sides.
        topk (int): A proposal attends to itself and to the ``topk`` others of
            largest bias; 0 for all.
        schedule (dict, optional): Arguments of :class:`TimeSchedule`.
        name (str): Key of the part in its stage.

    Raises:
        ValueError: If ``mode`` is unknown or a number out of its range.
    """

    optim_part = 'geometry'

    def __init__(
        self,
        feat_channels: int,
        num_classes: int,
        mode: str = 'distance',
        scale: float = 1.0,
        learnable_heads: int = 0,
        sigma: float = 2.0,
        min_norm: float = 0.0,
        hidden_dim: int = 64,
        include_iou: bool = False,
        use_log_wh: bool = True,
        topk: int = 0,
        schedule: Optional[dict] = None,
        name: str = 'geometry_bias',
    ) -> None:
        super().__init__()
        if mode not in MODES:
            raise ValueError(f'GeometryBias: unknown mode {mode!r}; choose from {list(MODES)}')
        if sigma <= 0 or min_norm < 0 or topk < 0 or learnable_heads < 0:
            raise ValueError(
                'GeometryBias: sigma must be positive, min_norm, topk and '
                f'learnable_heads >= 0; got {sigma}, {min_norm}, {topk}, '
                f'{learnable_heads}'
            )
        self.name = name
        self.mode = mode
        self.scale = scale
        self.sigma = sigma
        self.min_norm = max(min_norm, 1e-6)
        self.include_iou = include_iou
        self.use_log_wh = use_log_wh
        self.topk = topk
        self.schedule = TimeSchedule(**(schedule or {}))
        if mode == 'mlp':
            self.mlp = nn.Sequential(
                nn.Linear(5 if include_iou else 4, hidden_dim), nn.SiLU(), nn.Linear(hidden_dim, 1)
            )
        if learnable_heads:
            self.head_scale = nn.Parameter(torch.empty(learnable_heads))
        else:
            self.head_scale = None

    def init_weights(self) -> None:
        """The network's last layer and the learned factors start at zero."""
        if self.mode == 'mlp':
            nn.init.zeros_(self.mlp[-1].weight)
            nn.init.zeros_(self.mlp[-1].bias)
        if self.head_scale is not None:
            nn.init.zeros_(self.head_scale)

    def forward(self, context: StageContext) -> Tensor:
        """(B, 1 or heads, N, N) term of the attention logits."""
        boxes = context.boxes.float()
        bias = getattr(self, f'_{self.mode}')(boxes)
        bias = bias * self.schedule(context.t)[:, None, None]
        far = self._far(bias) if self.topk else None
        bias = self.scale * bias[:, None]
        if self.head_scale is not None:
            bias = bias * self.head_scale.tanh()[:, None, None]
        if far is not None:
            bias = bias.masked_fill(far[:, None], -1e4)
        return bias

    def _distance(self, boxes: Tensor) -> Tensor:
        centre = (boxes[..., :2] + boxes[..., 2:]) / 2
        size = box_sides(boxes).prod(-1).sqrt()
        norm = (size[:, :, None] + size[:, None]) / 2
        offset = centre[:, :, None] - centre[:, None]
        dist = offset.norm(dim=-1) / norm.clamp(min=self.min_norm)
        return -(dist / self.sigma).square().clamp(max=10)

    def _iou(self, boxes: Tensor) -> Tensor:
        return _zero_diagonal(pairwise_iou(boxes))

    def _mlp(self, boxes: Tensor) -> Tensor:
        pairs = pair_vector(boxes, self.use_log_wh, self.include_iou)
        with full_precision(boxes):
            return _zero_diagonal(self.mlp(pairs.clamp(-10, 10)).squeeze(-1).tanh())

    def _far(self, bias: Tensor) -> Tensor:
        """(B, N, N) bool, True for pairs that do not attend."""
        num = bias.size(-1)
        self_pair = torch.eye(num, dtype=torch.bool, device=bias.device)
        others = bias.detach().masked_fill(self_pair, -torch.inf)
        near = others.topk(min(self.topk, num - 1), dim=-1)[1]
        far = torch.ones_like(bias, dtype=torch.bool)
        return far.scatter(-1, near, False) & ~self_pair


def _zero_diagonal(pairs: Tensor) -> Tensor:
    eye = torch.eye(pairs.size(-1), dtype=torch.bool, device=pairs.device)
    return pairs.masked_fill(eye, 0)
