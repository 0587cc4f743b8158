"""The same detector in two ways: ours, and MMDetection's, the baseline."""

import copy
import inspect
from types import SimpleNamespace
from typing import Any, Dict, List, Optional

import torch
from mmengine.config import Config, ConfigDict
from torch import nn

from ..device import channels_last_on_gpu
from ..engine.checkpoint import load_weights
from ..engine.compile_hook import use_compile
from ..models.detector import DiffusionDet
from ..models.head import DiffusionDetHead
from ..models.structures import HeadOutput
from ..registry import HOOKS, MODELS


@MODELS.register_module()
class BaselineHead(DiffusionDetHead):
    """Outputs of all stages are computed in testing too."""

    def forward(self, *args: Any, **kwargs: Any) -> HeadOutput:
        """See the parent."""
        return super().forward(*args, **{**kwargs, 'all_stages': True})


def baseline_config(model: ConfigDict) -> ConfigDict:
    """The model in the way of MMDetection's own DiffusionDet project.

    RoI features by MMDetection's extractor (RoIAlign of MMCV), and outputs of
    all stages in testing too. Everything else is our model without
    :mod:`mmdiffdet.fast`, which the benchmark leaves out for it.

    Raises:
        ValueError: If the model's extractor is another than ours.
    """
    model = copy.deepcopy(model)
    ours = model.bbox_head.get('roi_extractor') or ConfigDict(
        inspect.signature(DiffusionDetHead).parameters['roi_extractor'].default
    )
    if ours.type.split('.')[-1] != 'GatherRoIExtractor':
        raise ValueError(
            f'model.bbox_head.roi_extractor is {ours.type}; the '
            'baseline is made from a GatherRoIExtractor'
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
    model.bbox_head.type = 'BaselineHead'
    return model


def check_detector(cfg: Config) -> None:
    """Raise ValueError if the config is not of a DiffusionDet."""
    if cfg.model.type.split('.')[-1] != 'DiffusionDet':
        raise ValueError(
            f'{cfg.filename} has model.type={cfg.model.type}; the benchmark is for DiffusionDet'
        )


def compile_as(model: DiffusionDet, cfg: Config) -> None:
    """Compile what ``compile`` of the config says, as a runner would."""
    cfg = copy.deepcopy(cfg)
    before = len(cfg.get('custom_hooks') or [])
    use_compile(cfg)
    for hook in (cfg.get('custom_hooks') or [])[before:]:
        HOOKS.build(hook).before_run(SimpleNamespace(model=model))


def build_pair(
    cfg: Config, checkpoint: Optional[str] = None, baseline: bool = True
) -> Dict[str, DiffusionDet]:
    """``ours`` and ``baseline``, with the same weights.

    Args:
        cfg (Config): Of a DiffusionDet.
        checkpoint (str, optional): Otherwise weights are random; time does
            not depend on them, but for how many detections NMS sees.
        baseline (bool): Whether the baseline is built too.

    Raises:
        ValueError: If the config is of another detector, or there is no
            baseline for it.
    """
    check_detector(cfg)
    model = copy.deepcopy(cfg.model)
    model.backbone.init_cfg = None
    other = baseline_config(model) if baseline else None
    torch.manual_seed(0)
    ours = MODELS.build(model)
    ours.init_weights()
    if checkpoint is not None:
        load_weights(ours, checkpoint, f'{cfg.filename} does not describe it')
    pair = dict(ours=ours)
    if other is not None:
        pair['baseline'] = MODELS.build(other)
        pair['baseline'].load_state_dict(ours.state_dict())
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    for name, part in pair.items():
        part.to(device)
        if name == 'ours':
            channels_last_on_gpu(part)
            compile_as(part, cfg)
    return pair


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
