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

_SCHEDULE = re.compile(
    r'(bbox_head\.)?(betas|alphas_cumprod\w*|sqrt_\w+|log_one_minus\w+|'
    r'posterior_\w+)$'
)
_CRITERION = re.compile(r'criterion\.')
_PIXELS = re.compile(r'pixel_(mean|std)$')

# Detectron2's backbone and pyramid -> MMDetection's
_NORM = r'(weight|bias|running_mean|running_var|num_batches_tracked)$'
_BACKBONE = (
    (r'backbone\.bottom_up\.stem\.conv1\.norm\.' + _NORM, r'backbone.bn1.\1'),
    (r'backbone\.bottom_up\.stem\.conv1\.weight$', 'backbone.conv1.weight'),
    (
        r'backbone\.bottom_up\.res(\d)\.(\d+)\.conv(\d)\.norm\.' + _NORM,
        lambda m: f'backbone.layer{int(m[1]) - 1}.{m[2]}.bn{m[3]}.{m[4]}',
    ),
    (
        r'backbone\.bottom_up\.res(\d)\.(\d+)\.conv(\d)\.weight$',
        lambda m: f'backbone.layer{int(m[1]) - 1}.{m[2]}.conv{m[3]}.weight',
    ),
    (
        r'backbone\.bottom_up\.res(\d)\.(\d+)\.shortcut\.norm\.' + _NORM,
        lambda m: f'backbone.layer{int(m[1]) - 1}.{m[2]}.downsample.1.{m[3]}',
    ),
    (
        r'backbone\.bottom_up\.res(\d)\.(\d+)\.shortcut\.weight$',
        lambda m: f'backbone.layer{int(m[1]) - 1}.{m[2]}.downsample.0.weight',
    ),
    (
        r'backbone\.fpn_lateral(\d)\.(weight|bias)$',
        lambda m: f'neck.lateral_convs.{int(m[1]) - 2}.conv.{m[2]}',
    ),
    (
        r'backbone\.fpn_output(\d)\.(weight|bias)$',
        lambda m: f'neck.fpn_convs.{int(m[1]) - 2}.conv.{m[2]}',
    ),
)
_RESNET_DEPTHS = {(3, 4, 6, 3): 50, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152}


@dataclass
class Conversion:
    """What became of a checkpoint.

    Args:
        kind (str): Where it is from.
        weights (dict[str, Tensor]): Under our names, of our model only.
        ignored (dict[str, str]): Source names that have no counterpart by
            design, with why.
        left_over (list[str]): Our or source names that the model lacks.
        missing (list[str]): The model's names that the source lacks.
        reshaped (list[str]): Names whose shapes differ.
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
    """Numpy arrays and plain containers, nothing else."""

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

    Args:
        path (Path): The file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, holds anything but weights and plain
            values, or has no weights.
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
    weights = {
        re.sub(r'^module\.', '', k): torch.from_numpy(np.array(v))
        if isinstance(v, np.ndarray)
        else v
        for k, v in weights.items()
        if isinstance(k, str)
    }
    check_finite({k: v for k, v in weights.items() if isinstance(v, Tensor)}, path)
    return {k: v for k, v in weights.items() if isinstance(v, Tensor)}


def convert(source: Dict[str, Tensor], model_cfg: Optional[dict] = None) -> Conversion:
    """Rename weights and compare with the model they make.

    Args:
        source (dict[str, Tensor]): From :func:`read_source`.
        model_cfg (dict, optional): Our model; by default a ResNet-FPN model
            whose depth, sizes and parts are read from the weights.

    Raises:
        ValueError: If the source is of neither kind.
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
    """Write ``.pth`` or ``.safetensors``; all of it or nothing.

    Raises:
        ValueError: If the name ends in neither.
    """
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
    """Ignored names, weights of the head without prefix, all others."""
    ignored, head, body = {}, {}, {}
    for name, value in source.items():
        if _SCHEDULE.match(name):
            ignored[name] = 'schedule buffer, the scheduler computes it'
        elif _CRITERION.match(name):
            ignored[name] = 'buffer of the loss'
        elif _PIXELS.match(name):
            ignored[name] = 'data_preprocessor of the config'
        elif name.startswith(prefix):
            head[name[len(prefix) :]] = value
        else:
            for pattern, replacement in _BACKBONE:
                name, found = re.subn(pattern, replacement, name)
                if found:
                    break
            body[name] = value
    return ignored, head, body


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
