"""Geometry of boxes in the proposal features."""

from typing import Optional

import torch
from torch import Tensor, nn

from ...diffusion.time_schedule import TimeSchedule
from ...registry import MODELS
from ..structures import StageContext
from .box_vector import box_vector, full_precision, pair_vector

ENCODERS = ('mlp', 'linear')
RELATIVE_NORMS = ('softmax', 'mean', 'none')
_GATE_LOGIT = torch.logit(torch.tensor(0.1)).item()


def _network(inputs: int, hidden: int, outputs: int, encoder: str) -> nn.Sequential:
    if encoder == 'linear':
        return nn.Sequential(nn.Linear(inputs, outputs))
    return nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, outputs))


@MODELS.register_module()
class GeometryFeature(nn.Module):
    """scale sigmoid(a) w(t) g, g = tanh of a network of (box vector, t).

    Which list of the stage it stands in says what it is added to: queries and
    keys (``position_parts``), proposal features (``feature_parts``) or the
    features of the box deltas (``regression_parts``). With ``relative`` the
    messages m_i = sum_j a_ij x_j are added to g, a = tanh of a network of the
    pair vector. The networks' last layers start at zero, the gate sigmoid(a)
    at 0.1.

    Args:
        feat_channels (int): d.
        num_classes (int): K; not read.
        scale (float): Defaults to 0.1.
        encoder (str): ``mlp`` or ``linear``, the network of g.
        hidden_dim (int): Width of the networks.
        use_log_wh (bool): Whether box vectors have log sides.
        relative (bool): Whether messages are added.
        relative_norm (str): ``softmax`` of a over j, ``mean`` (a divided by
            N - 1) or ``none``.
        include_iou (bool): Whether the pair vector has the IoU.
        schedule (dict, optional): Arguments of :class:`TimeSchedule`; by
            default linear with power 2.
        num_train_timesteps (int): T.
        name (str): Key of the part in its stage.

    Raises:
        ValueError: If a name is unknown.
    """

    optim_part = 'geometry'

    def __init__(
        self,
        feat_channels: int,
        num_classes: int,
        scale: float = 0.1,
        encoder: str = 'mlp',
        hidden_dim: int = 64,
        use_log_wh: bool = True,
        relative: bool = False,
        relative_norm: str = 'softmax',
        include_iou: bool = False,
        schedule: Optional[dict] = None,
        num_train_timesteps: int = 1000,
        name: str = 'geometry_feature',
    ) -> None:
        super().__init__()
        for key, value, valid in (
            ('encoder', encoder, ENCODERS),
            ('relative_norm', relative_norm, RELATIVE_NORMS),
        ):
            if value not in valid:
                raise ValueError(
                    f'GeometryFeature: unknown {key} {value!r}; choose from {list(valid)}'
                )
        self.name = name
        self.scale = scale
        self.use_log_wh = use_log_wh
        self.relative_norm = relative_norm
        self.include_iou = include_iou
        self.num_train_timesteps = num_train_timesteps
        self.schedule = TimeSchedule(**(schedule or dict(type='linear', power=2.0)))
        self.absolute = _network(5, hidden_dim, feat_channels, encoder)
        self.relative = (
            _network(5 if include_iou else 4, hidden_dim, 1, 'mlp') if relative else None
        )
        self.gate = nn.Parameter(torch.empty(()))
        # set by GeometryWarmupHook; counts in training only
        self.train_factor = 1.0

    def init_weights(self) -> None:
        """The last layers start at zero, the gate at 0.1."""
        for network in filter(None, (self.absolute, self.relative)):
            nn.init.zeros_(network[-1].weight)
            nn.init.zeros_(network[-1].bias)
        nn.init.constant_(self.gate, _GATE_LOGIT)

    def forward(self, context: StageContext) -> Tensor:
        """(B, N, d) term."""
        boxes = context.boxes.float()
        vector = box_vector(boxes, self.use_log_wh)
        time = context.t.float() / (self.num_train_timesteps - 1)
        time = time[:, None, None].expand(-1, vector.size(1), 1)
        inputs = torch.cat([vector, time], -1).clamp(-10, 10)
        with full_precision(boxes):
            term = self.absolute(inputs).tanh()
        if self.relative is not None:
            term = term + self._messages(boxes, context.features)
        weight = self.schedule(context.t)[:, None, None]
        if self.training:
            weight = weight * self.train_factor
        return self.scale * self.gate.sigmoid() * weight * term

    def _messages(self, boxes: Tensor, features: Tensor) -> Tensor:
        pairs = pair_vector(boxes, self.use_log_wh, self.include_iou)
        with full_precision(boxes):
            a = self.relative(pairs.clamp(-10, 10)).squeeze(-1).tanh()
        num = a.size(-1)
        eye = torch.eye(num, dtype=torch.bool, device=a.device)
        if self.relative_norm == 'softmax':
            a = a.masked_fill(eye, -torch.inf if num > 1 else 0).softmax(-1)
        elif self.relative_norm == 'mean':
            a = a / max(num - 1, 1)
        return a.masked_fill(eye, 0) @ features.to(a.dtype)
