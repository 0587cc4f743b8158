"""One stage of the cascade."""

import math
from typing import Optional, Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..registry import MODELS
from .box_deltas import apply_deltas
from .dynamic_conv import DynamicConv
from .interaction import NoInteraction
from .roi_gather import FeatureTable
from .structures import StageContext, StageOutput


def _blocks(channels: int, num: int) -> nn.Sequential:
    """``num`` times Linear without bias, LayerNorm, ReLU."""
    layers = []
    for _ in range(num):
        layers += [
            nn.Linear(channels, channels, bias=False),
            nn.LayerNorm(channels),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


def _build_parts(cfgs: Sequence[dict], feat_channels: int, num_classes: int) -> nn.ModuleDict:
    parts = nn.ModuleDict()
    for cfg in cfgs:
        part = MODELS.build(dict(cfg, feat_channels=feat_channels, num_classes=num_classes))
        if part.name in parts:
            raise ValueError(
                f'two parts of a stage are named {part.name!r}; each part may stand in a list once'
            )
        parts[part.name] = part
    return parts


@MODELS.register_module()
class DiffusionDetStage(BaseModule):
    """RoI -> features -> interaction -> dynamic convolution -> outputs.

    (DiffusionDet, arXiv 2211.09788, sec. 3.2; after Sparse R-CNN.) The lists
    of parts hold registered modules. Those of the first four are called with a
    :class:`StageContext`, output parts with what is said below. A part that is not
    in the config does not exist.

    Args:
        num_classes (int): K.
        feat_channels (int): d.
        feedforward_channels (int): Width of the feed-forward network.
        dynamic_dim (int): m of the dynamic convolution.
        roi_size (int): Bins along a side of a RoI.
        num_cls_fcs (int): Blocks before the class logits.
        num_reg_fcs (int): Blocks before the box deltas.
        interaction (dict): ``SelfAttention`` or ``NoInteraction``.
        prior_prob (float): Class probability at the start.
        feature_parts (Sequence[dict]): Each returns a (B, N, d) term of the
            proposal features; they are applied in order.
        position_parts (Sequence[dict]): Each returns a (B, N, d) term of
            queries and keys only.
        attention_parts (Sequence[dict]): Each returns a term of the attention
            logits, broadcastable to (B, heads, N, N).
        regression_parts (Sequence[dict]): Each returns a (B, N, d) term of
            the features that the box deltas are made from.
        output_parts (Sequence[dict]): Each is called with the modulated
            features, the new boxes and t, and returns one more output that
            is known under the part's ``name``.

    Raises:
        ValueError: If two parts of a list have one name, or parts that act
            through attention do not fit the interaction.
    """

    def __init__(
        self,
        num_classes: int,
        feat_channels: int = 256,
        feedforward_channels: int = 2048,
        dynamic_dim: int = 64,
        roi_size: int = 7,
        num_cls_fcs: int = 1,
        num_reg_fcs: int = 3,
        interaction: dict = dict(type='SelfAttention', num_heads=8),
        prior_prob: float = 0.01,
        feature_parts: Sequence[dict] = (),
        position_parts: Sequence[dict] = (),
        attention_parts: Sequence[dict] = (),
        regression_parts: Sequence[dict] = (),
        output_parts: Sequence[dict] = (),
    ) -> None:
        super().__init__()
        d = feat_channels
        self.prior_prob = prior_prob
        self.self_attn = MODELS.build(dict(interaction, feat_channels=d))
        self.inst_interact = DynamicConv(d, dynamic_dim, roi_size**2)
        self.linear1 = nn.Linear(d, feedforward_channels)
        self.linear2 = nn.Linear(feedforward_channels, d)
        self.norm1 = nn.LayerNorm(d)
        self.norm2 = nn.LayerNorm(d)
        self.norm3 = nn.LayerNorm(d)
        self.block_time_mlp = nn.Sequential(nn.SiLU(), nn.Linear(4 * d, 2 * d))
        self.cls_module = _blocks(d, num_cls_fcs)
        self.reg_module = _blocks(d, num_reg_fcs)
        self.class_logits = nn.Linear(d, num_classes)
        self.bboxes_delta = nn.Linear(d, 4)
        self.feature_parts = _build_parts(feature_parts, d, num_classes)
        self.position_parts = _build_parts(position_parts, d, num_classes)
        self.attention_parts = _build_parts(attention_parts, d, num_classes)
        self.regression_parts = _build_parts(regression_parts, d, num_classes)
        self.output_parts = _build_parts(output_parts, d, num_classes)
        self._check_interaction()

    def _check_interaction(self) -> None:
        acting = [*self.position_parts, *self.attention_parts]
        if isinstance(self.self_attn, NoInteraction) and acting:
            raise ValueError(
                f'{acting} act through attention, which NoInteraction has not:'
                " leave them out or use interaction=dict(type='SelfAttention')"
            )
        for name, part in self.attention_parts.items():
            scale = getattr(part, 'head_scale', None)
            if scale is not None and len(scale) != self.self_attn.num_heads:
                raise ValueError(
                    f'{name}: learnable_heads is {len(scale)}, interaction.'
                    f'num_heads is {self.self_attn.num_heads}'
                )

    def init_weights(self) -> None:
        """Set what does not start from Xavier's matrices; no random draw."""
        nn.init.constant_(
            self.class_logits.bias, -math.log((1 - self.prior_prob) / self.prior_prob)
        )
        for parts in (
            self.feature_parts,
            self.position_parts,
            self.attention_parts,
            self.regression_parts,
            self.output_parts,
        ):
            for part in parts.values():
                part.init_weights()

    def forward(
        self,
        table: FeatureTable,
        roi_extractor: nn.Module,
        boxes: Tensor,
        features: Optional[Tensor],
        time_embedding: Tensor,
        t: Tensor,
        image_index: Optional[Tensor] = None,
        label_state: Optional[Tensor] = None,
        need_outputs: bool = True,
        need_attention: bool = False,
    ) -> StageOutput:
        """Refine proposals.

        Args:
            table (FeatureTable): What ``roi_extractor`` pools from.
            roi_extractor (nn.Module): (table, (M, 5) RoIs) to (M, d, 7, 7), or
                of (B, N, 4) boxes.
            boxes (Tensor): (B, N, 4), xyxy in pixels.
            features (Tensor, optional): (B, N, d) of the stage before.
            time_embedding (Tensor): (B, 4 d).
            t (Tensor): (B,) long timesteps.
            image_index (Tensor, optional): (B,), the image of each row of
                ``boxes``; without it row i is of image i, and the extractor
                takes boxes.
            label_state (Tensor, optional): (B, N) ids or (B, N, K + 1).
            need_outputs (bool): Whether logits and extras are computed.
            need_attention (bool): Whether attention weights are returned.
        """
        batch, num = boxes.shape[:2]
        boxes = boxes.detach()
        if image_index is None:  # boxes of each image
            roi = roi_extractor(table, boxes)
        else:
            index = image_index.to(boxes.dtype)[:, None, None].expand(-1, num, 1)
            roi = roi_extractor(table, torch.cat([index, boxes], -1).flatten(0, 1))
        if features is None:
            features = self.mean(roi).view(batch, num, -1)
        roi = roi.flatten(2).transpose(1, 2)

        context = StageContext(features, boxes, t, label_state)
        for part in self.feature_parts.values():
            context.features = context.features + part(context)
        x = context.features
        attended, attention = self.self_attn(
            x,
            position=_sum(self.position_parts, context),
            bias=_sum(self.attention_parts, context),
            need_weights=need_attention,
        )
        x = self.norm1(x + attended)
        x = self.norm2(x + self.inst_interact(x.flatten(0, 1), roi).view(batch, num, -1))
        x = self.norm3(x + self.linear2(self.linear1(x).relu()))

        scale, shift = self.block_time_mlp(time_embedding)[:, None].chunk(2, dim=-1)
        modulated = x * (1 + scale) + shift
        regression = modulated
        term = _sum(self.regression_parts, context)
        if term is not None:
            regression = regression + term
        deltas = self.bboxes_delta(self.reg_module(regression))
        new_boxes = apply_deltas(boxes, deltas.float())
        output = StageOutput(new_boxes, x, attention=attention)
        if need_outputs:
            output.modulated = modulated
            output.logits = self.class_logits(self.cls_module(modulated))
            output.extras = {
                name: part(modulated, new_boxes, t) for name, part in self.output_parts.items()
            }
        return output

    @staticmethod
    def mean(roi: Tensor) -> Tensor:
        """(M, d, h, w) RoI features to their means (M, d); ``mmdiffdet.fast`` pools in tests."""
        return roi.mean((2, 3))


def _sum(parts: nn.ModuleDict, context: StageContext) -> Optional[Tensor]:
    terms = [part(context) for part in parts.values()]
    return sum(terms[1:], terms[0]) if terms else None
