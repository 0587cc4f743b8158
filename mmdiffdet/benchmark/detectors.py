"""The same detector in two ways: ours, and the reference's."""

import copy
import inspect
from typing import Any, Dict, List, Optional, Tuple

import torch
from mmengine.config import Config, ConfigDict
from torch import Tensor, nn

from ..engine.checkpoint import load_weights
from ..models.detector import DiffusionDet
from ..models.dynamic_conv import DynamicConv
from ..models.head import DiffusionDetHead
from ..models.interaction import SelfAttention
from ..models.packed_linear import PackedLinear
from ..models.stage import DiffusionDetStage
from ..models.structures import HeadOutput
from ..registry import MODELS


@MODELS.register_module()
class ReferenceDiffusionDet(DiffusionDet):
    """Feature maps in the default memory format, channels first."""

    def backbone_maps(self, batch_inputs: Tensor) -> Tuple[Tensor, ...]:
        """(B, 3, H, W) images to the maps of the backbone."""
        return self.backbone(batch_inputs)


@MODELS.register_module()
class ReferenceDiffusionDetHead(DiffusionDetHead):
    """Outputs of all stages are computed in testing too."""

    def forward(self, *args: Any, **kwargs: Any) -> HeadOutput:
        """See the parent."""
        return super().forward(*args, **{**kwargs, 'all_stages': True})


class ReferenceDynamicConv(DynamicConv):
    """As ``mmdet.models.layers.DynamicConv``: one product, then its halves."""

    def forward(self, features: Tensor, roi: Tensor) -> Tensor:
        """See the parent."""
        d, m = self.feat_channels, self.dynamic_dim
        first, second = self.dynamic_layer(features).split(d * m, dim=1)
        x = self.norm1(torch.bmm(roi, first.view(-1, d, m))).relu_()
        x = self.norm2(torch.bmm(x, second.view(-1, m, d))).relu_()
        return self.norm3(self.out_layer(x.flatten(1))).relu_()


@MODELS.register_module()
class ReferenceSelfAttention(SelfAttention):
    """As ``nn.MultiheadAttention``, which returns weights unless told not."""

    def forward(
        self,
        features: Tensor,
        position: Optional[Tensor] = None,
        bias: Optional[Tensor] = None,
        need_weights: bool = False,
    ) -> Tuple[Tensor, Tensor]:
        """See the parent."""
        query = features if position is None else features + position
        if bias is not None:
            batch, num = features.shape[:2]
            bias = bias.expand(batch, self.num_heads, num, num).flatten(0, 1)
        return nn.MultiheadAttention.forward(self, query, query, features, attn_mask=bias)


@MODELS.register_module()
class ReferenceStage(DiffusionDetStage):
    """Attention and dynamic convolution in plain modules."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        ours = self.inst_interact
        self.inst_interact = ReferenceDynamicConv(
            ours.feat_channels, ours.dynamic_dim, ours.out_layer.in_features // ours.feat_channels
        )
        for name, layer in list(self.named_modules()):
            if isinstance(layer, PackedLinear):
                self.set_submodule(name, nn.Linear(layer.in_features, layer.out_features))


def reference_config(model: ConfigDict) -> ConfigDict:
    """The model in the way of MMDetection's own DiffusionDet project.

    RoI features by MMDetection's extractor (RoIAlign of MMCV), its dynamic
    convolution, ``nn.MultiheadAttention``, maps with channels first, outputs
    of all stages in testing too. Everything else is ours.

    Raises:
        ValueError: If the model's extractor or stage is another than ours.
    """
    model = copy.deepcopy(model)
    ours = model.bbox_head.get('roi_extractor') or ConfigDict(
        inspect.signature(DiffusionDetHead).parameters['roi_extractor'].default
    )
    if ours.type.split('.')[-1] != 'GatherRoIExtractor':
        raise ValueError(
            f'model.bbox_head.roi_extractor is {ours.type}; the '
            'reference is made from a GatherRoIExtractor'
        )
    model.bbox_head.roi_extractor = dict(
        type='mmdet.SingleRoIExtractor',
        roi_layer=dict(
            type='RoIAlign',
            output_size=ours.get('output_size', 7),
            sampling_ratio=ours.get('sampling_ratio', 2),
            aligned=True,
        ),
        out_channels=ours.out_channels,
        featmap_strides=ours.featmap_strides,
        finest_scale=ours.get('finest_scale', 56),
    )
    model.type = 'ReferenceDiffusionDet'
    model.bbox_head.type = 'ReferenceDiffusionDetHead'
    stage = model.bbox_head.setdefault('stage', ConfigDict(type='DiffusionDetStage'))
    if stage.type.split('.')[-1] != 'DiffusionDetStage':
        raise ValueError(
            f'model.bbox_head.stage is {stage.type}; the reference is made from a DiffusionDetStage'
        )
    stage.type = 'ReferenceStage'
    interaction = stage.setdefault('interaction', ConfigDict(type='SelfAttention'))
    if interaction.type.split('.')[-1] == 'SelfAttention':
        interaction.type = 'ReferenceSelfAttention'
    return model


def check_detector(cfg: Config) -> None:
    """Raise ValueError if the config is not of a DiffusionDet."""
    if cfg.model.type.split('.')[-1] != 'DiffusionDet':
        raise ValueError(
            f'{cfg.filename} has model.type={cfg.model.type}; the benchmark is for DiffusionDet'
        )


def build_pair(
    cfg: Config, checkpoint: Optional[str] = None, reference: bool = True
) -> Dict[str, DiffusionDet]:
    """``ours`` and ``reference``, with the same weights.

    Args:
        cfg (Config): Of a DiffusionDet.
        checkpoint (str, optional): Otherwise weights are random; time does
            not depend on them, but for how many detections NMS sees.
        reference (bool): Whether the reference is built too.

    Raises:
        ValueError: If the config is of another detector, or there is no
            reference for it.
    """
    check_detector(cfg)
    model = copy.deepcopy(cfg.model)
    model.backbone.init_cfg = None
    other = reference_config(model) if reference else None
    torch.manual_seed(0)
    ours = MODELS.build(model)
    ours.init_weights()
    if checkpoint is not None:
        load_weights(ours, checkpoint, f'{cfg.filename} does not describe it')
    pair = dict(ours=ours)
    if other is not None:
        pair['reference'] = MODELS.build(other)
        pair['reference'].load_state_dict(ours.state_dict())
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    return {name: m.to(device) for name, m in pair.items()}


def head_parts(model: DiffusionDet) -> Dict[str, List[nn.Module]]:
    """The modules of the stages, by what they are for."""
    parts: Dict[str, List[nn.Module]] = {'RoI features': [model.bbox_head.roi_extractor]}
    for stage in model.bbox_head.head_series:
        for name, modules in (
            ('attention', [stage.self_attn]),
            ('dynamic convolution', [stage.inst_interact]),
            ('feed-forward', [stage.linear1, stage.linear2]),
            (
                'outputs',
                [
                    stage.block_time_mlp,
                    stage.reg_module,
                    stage.bboxes_delta,
                    stage.cls_module,
                    stage.class_logits,
                    *stage.output_parts.values(),
                ],
            ),
            (
                'parts',
                [
                    *stage.feature_parts.values(),
                    *stage.position_parts.values(),
                    *stage.attention_parts.values(),
                    *stage.regression_parts.values(),
                ],
            ),
        ):
            parts.setdefault(name, []).extend(modules)
    return {name: modules for name, modules in parts.items() if modules}
