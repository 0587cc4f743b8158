"""Checkpoints of Detectron2 DiffusionDet and of MMDetection's project."""

import codecs
import pickle
import re
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import safetensors.torch
import torch
from mmengine.config import ConfigDict
from torch import Tensor

from ..engine.checkpoint import check_finite, load_checkpoint_file
from ..engine.download import check_is_file
from ..registry import MODELS
from ..utils import atomic_path
from .detectron2_model import model_config
from .detectron2_weights import options_of, rename_all

DETECTRON2 = 'Detectron2 DiffusionDet'
PROJECT = "MMDetection's DiffusionDet project"

# what is not converted, and why
_IGNORED = {
    r'(bbox_head\.)?(betas|alphas_cumprod\w*|sqrt_\w+|log_one_minus\w+|posterior_\w+)$': (
        'schedule buffer, the scheduler computes it'
    ),
    r'criterion\.': 'buffer of the loss',
    r'pixel_(mean|std)$': 'data_preprocessor of the config',
}
# Detectron2's names of backbone and pyramid
_BACKBONE = re.compile(
    r'backbone\.bottom_up\.(?:stem|res(\d)\.(\d+))\.(conv(\d)|shortcut)(\.norm)?\.(\w+)$'
)
_PYRAMID = re.compile(r'backbone\.fpn_(lateral|output)(\d)\.(weight|bias)$')
_RESNET_DEPTHS = {(3, 4, 6, 3): 50, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152}


@dataclass
class Conversion:
    """A converted checkpoint.

    ``kind`` is the system that it is from. ``weights`` have our names; ``ignored``
    holds names of the source that have no counterpart by design, with the reason.
    ``left_over`` weights are not in our model, ``missing`` ones not in the source,
    and ``reshaped`` ones have another shape.
    """

    kind: str
    weights: Dict[str, Tensor]
    ignored: Dict[str, str] = field(default_factory=dict)
    left_over: List[str] = field(default_factory=list)
    missing: List[str] = field(default_factory=list)
    reshaped: List[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every weight has found its place."""
        return not (self.left_over or self.missing or self.reshaped)


class _AllowListUnpickler(pickle.Unpickler):
    """Reads NumPy arrays and plain containers, and refuses anything else."""

    _ALLOWED = {
        ('collections', 'OrderedDict'): OrderedDict,
        ('numpy', 'ndarray'): np.ndarray,
        ('numpy', 'dtype'): np.dtype,
        ('_codecs', 'encode'): codecs.encode,
        **{
            (f'numpy.{core}.multiarray', name): getattr(np._core.multiarray, name)
            for core in ('core', '_core')
            for name in ('_reconstruct', 'scalar')
        },
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f'{module}.{name} is not allowed in a .pkl') from None


def read_source(path: Path) -> Dict[str, Tensor]:
    """Weights of a ``.pth``, ``.safetensors`` or Detectron2 ``.pkl`` file.

    ValueError if it cannot be read, holds anything but weights and plain values, or
    has no weights.
    """
    if path.suffix == '.pkl':
        check_is_file(path, f'checkpoint {path}')
        try:
            with open(path, 'rb') as file:
                content = _AllowListUnpickler(file, encoding='latin1').load()
        # a pickle that is none raises whatever its first bytes lead to
        except Exception as error:
            raise ValueError(f'{path} was not opened: {error}') from error
    else:
        content = load_checkpoint_file(path)
    weights = content
    if isinstance(content, dict):
        for key in ('model', 'state_dict'):
            weights = content.get(key, weights)
    if not isinstance(weights, dict):
        raise ValueError(f'{path} has no "model" or "state_dict" with weights')
    found = {
        k.removeprefix('module.'): torch.as_tensor(np.array(v) if isinstance(v, np.ndarray) else v)
        for k, v in weights.items()
        if isinstance(k, str) and isinstance(v, (np.ndarray, Tensor))
    }
    check_finite(found, path)
    return found


def convert(source: Dict[str, Tensor], model_cfg: Optional[dict] = None) -> Conversion:
    """Rename weights from :func:`read_source` and compare them with our model's.

    ``model_cfg`` is the config of our model; by default that of a ResNet-FPN model
    whose depth, sizes and parts are read from the weights. ValueError if the source
    is of neither system.
    """
    if any(k.startswith('head.head_series.') for k in source):
        kind, prefix = DETECTRON2, 'head.'
    elif any(k.startswith('bbox_head.head_series.') for k in source):
        kind, prefix = PROJECT, 'bbox_head.'
    else:
        raise ValueError(
            'neither a checkpoint of Detectron2 DiffusionDet (no weight is '
            "named head.head_series.*) nor of MMDetection's project "
            '(bbox_head.head_series.*)'
        )
    ignored, head, body = _sort(source, prefix)
    expected = _expected(head, body, model_cfg)
    head_names = [k[10:] for k in expected if k.startswith('bbox_head.')]
    renamed, unread = rename_all(head, head_names)
    ignored.update({prefix + k: why for k, why in unread.items()})
    weights = {**body, **{f'bbox_head.{k}': v for k, v in renamed.items()}}
    for name, value in expected.items():  # a counter that nothing reads
        if name.endswith('num_batches_tracked'):
            weights.setdefault(name, value)

    result = Conversion(kind, {}, ignored)
    result.left_over = sorted(set(weights) - set(expected))
    result.missing = sorted(set(expected) - set(weights))
    for name in expected:  # the model's order
        if name in weights:
            if weights[name].shape != expected[name].shape:
                result.reshaped.append(
                    f'{name}: {tuple(weights[name].shape)}, the model has '
                    f'{tuple(expected[name].shape)}'
                )
            result.weights[name] = weights[name].contiguous()
    return result


def save(conversion: Conversion, path: Path) -> None:
    """Write a ``.pth`` or ``.safetensors`` file; ValueError at another ending."""
    if path.suffix not in ('.pth', '.safetensors'):
        raise ValueError(f'{path}: must end in .pth or .safetensors')
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        if path.suffix == '.pth':
            content = dict(meta=dict(converted_from=conversion.kind), state_dict=conversion.weights)
            with open(temporary, 'wb') as file:  # a path would be written into it
                torch.save(content, file)
        else:
            safetensors.torch.save_file(
                conversion.weights, temporary, metadata=dict(converted_from=conversion.kind)
            )


def _sort(
    source: Dict[str, Tensor], prefix: str
) -> Tuple[Dict[str, str], Dict[str, Tensor], Dict[str, Tensor]]:
    """Ignored names with the reason, weights of the head without prefix, and all others."""
    ignored, head, body = {}, {}, {}
    for name, value in source.items():
        why = next((why for pattern, why in _IGNORED.items() if re.match(pattern, name)), None)
        if why:
            ignored[name] = why
        elif name.startswith(prefix):
            head[name.removeprefix(prefix)] = value
        else:
            body[_PYRAMID.sub(_of_pyramid, _BACKBONE.sub(_of_backbone, name))] = value
    return ignored, head, body


def _of_backbone(found: re.Match) -> str:
    """MMDetection's name of a weight of Detectron2's ResNet."""
    level, block, _, conv, norm, weight = found.groups()
    stage = f'layer{int(level) - 1}.{block}.' if level else ''
    layer = f'{"bn" if norm else "conv"}{conv}' if conv else f'downsample.{1 if norm else 0}'
    return f'backbone.{stage}{layer}.{weight}'


def _of_pyramid(found: re.Match) -> str:
    """MMDetection's name of a weight of Detectron2's feature pyramid."""
    convs = 'lateral_convs' if found[1] == 'lateral' else 'fpn_convs'
    return f'neck.{convs}.{int(found[2]) - 2}.conv.{found[3]}'


def _expected(
    head: Dict[str, Tensor], body: Dict[str, Tensor], model_cfg: Optional[dict]
) -> Dict[str, Tensor]:
    if model_cfg is None:
        blocks = tuple(
            len({k.split('.')[2] for k in body if k.startswith(f'backbone.layer{i}.')})
            for i in (1, 2, 3, 4)
        )
        if blocks not in _RESNET_DEPTHS:
            raise ValueError(
                f'the backbone is no ResNet-50, 101 or 152 (blocks {blocks}); '
                'give the model with --config'
            )
        options = options_of(head)
        model_cfg = dict(
            model_config(options),
            backbone=dict(type='mmdet.ResNet', depth=_RESNET_DEPTHS[blocks]),
            neck=dict(
                type='mmdet.FPN',
                in_channels=[256, 512, 1024, 2048],
                out_channels=options['HIDDEN_DIM'],
                num_outs=4,
            ),
        )
    return MODELS.build(ConfigDict(model_cfg)).state_dict()
