"""Learning rates and gradient clipping by part of the model."""

from contextlib import contextmanager
from functools import partial
from typing import Any, Dict, Iterator, List, Optional, Sequence

import torch
import torch.distributed as dist
from mmengine.device import get_device
from mmengine.optim import (
    AmpOptimWrapper,
    DefaultOptimWrapperConstructor,
    OptimWrapper,
)
from mmengine.runner import autocast
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy
from torch.nn.utils import clip_grad_norm_

from ..fast import accelerated
from ..registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS
from .unwrap import unwrap

_PARTS = ('backbone', 'geometry', 'quality')
# a loss scale of float16 that no gradient needs: 40 halvings of the first one
_LEAST_SCALE = 1e-7
_OPTIONS = tuple(f'{part}_lr_mult' for part in _PARTS)


def parts_of(model: nn.Module) -> Dict[str, str]:
    """``backbone``, ``geometry``, ``quality`` or ``base`` by parameter name.

    Modules say by an attribute ``optim_part`` what they belong to.
    """
    parts = {
        name: 'backbone' if name.startswith('backbone.') else 'base'
        for name, _ in model.named_parameters()
    }
    for prefix, module in model.named_modules():
        part = getattr(module, 'optim_part', None)
        if part is not None:
            parts.update((f'{prefix}.{name}', part) for name, _ in module.named_parameters())
    return parts


def frozen_parts(paramwise_cfg: Optional[dict]) -> List[str]:
    """Parts whose multiplier of the learning rate is 0."""
    return [part for part in _PARTS if (paramwise_cfg or {}).get(f'{part}_lr_mult') == 0]


def freeze_parts(model: nn.Module, frozen: Sequence[str]) -> None:
    """Train the parts no more, see :class:`PartOptimWrapperConstructor`.

    Args:
        model (nn.Module): A detector without wrapper.
        frozen (Sequence[str]): Names of :func:`parts_of`.
    """
    parts = parts_of(model)
    for name, parameter in model.named_parameters():
        if parts[name] in frozen:
            parameter.requires_grad_(False)
    if 'backbone' in frozen:
        model.freeze_backbone()


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class PartOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """One parameter group a part, with its own learning rate.

    ``paramwise_cfg`` takes ``backbone_lr_mult``, ``geometry_lr_mult`` and
    ``quality_lr_mult``, each 1 by default. A multiplier of 0 freezes the
    part: no gradient is computed, it is not in the optimiser (no weight
    decay), and the backbone stays in evaluation mode (statistics of batch
    norm are fixed).

    Args:
        optim_wrapper_cfg (dict): With ``optimizer``.
        paramwise_cfg (dict, optional): The multipliers.

    Raises:
        ValueError: If a multiplier is negative or an option unknown.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: Optional[dict] = None) -> None:
        unknown = sorted(set(paramwise_cfg or ()) - set(_OPTIONS))
        if unknown:
            raise ValueError(
                f'optim_wrapper.paramwise_cfg: unknown {unknown}, this '
                f"constructor takes {list(_OPTIONS)}; MMEngine's options need "
                "optim_wrapper.constructor='DefaultOptimWrapperConstructor'"
            )
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        for option, value in self.paramwise_cfg.items():
            if value < 0:
                raise ValueError(f'optim_wrapper.paramwise_cfg: {option} must be >= 0, got {value}')

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimiser and its wrapper."""
        bare = unwrap(model)
        sharded = isinstance(model, FullyShardedDataParallel)
        frozen = frozen_parts(self.paramwise_cfg)
        parts = parts_of(bare)
        before = sum(p.requires_grad for p in bare.parameters())
        freeze_parts(bare, frozen)
        if frozen and sharded:
            raise ValueError(
                f'{frozen} frozen by a multiplier of 0: this is not supported with FSDP'
            )
        if before > sum(p.requires_grad for p in bare.parameters()) and not getattr(
            model, 'find_unused_parameters', True
        ):  # the wrapper was made before and waits for all gradients
            raise ValueError(
                f'{frozen} frozen by a multiplier of 0 in several processes: train by '
                'tools/train.py, or set find_unused_parameters=True in the config'
            )

        groups: Dict[str, dict] = {}
        for name, parameter in bare.named_parameters():
            if not parameter.requires_grad:
                continue
            part = parts[name]
            mult = self.paramwise_cfg.get(f'{part}_lr_mult', 1.0)
            group = groups.setdefault(part, dict(params=[], part=part))
            if self.base_lr is not None:
                group['lr'] = self.base_lr * mult
            group['params'].append(parameter)
        optimizer = OPTIMIZERS.build(dict(self.optimizer_cfg, params=list(groups.values())))
        wrapper_cfg = dict(self.optim_wrapper_cfg)
        wrapper_cfg.setdefault('type', 'PartOptimWrapper')
        if sharded and wrapper_cfg['type'] == 'PartAmpOptimWrapper':
            wrapper_cfg.setdefault('use_fsdp', True)
        wrapper = OPTIM_WRAPPERS.build(wrapper_cfg, default_args=dict(optimizer=optimizer))
        if sharded and model.sharding_strategy is not ShardingStrategy.NO_SHARD:
            wrapper.shard_group = model.process_group
        return wrapper


class _FastForward:
    """Compute losses by the faster kernels of :mod:`mmdiffdet.fast`."""

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """MMEngine's, around the forward pass of a training iteration."""
        with accelerated(model), super().optim_context(model):
            yield


class _ClipByPart:
    """Clip the gradients of geometry, quality and everything else apart.

    Clipped together, the large gradients of one part would shrink the steps
    of the others. The three norms are logged as ``grad_norm`` (of everything
    else), ``grad_norm_geometry`` and ``grad_norm_quality``.
    """

    # processes that hold the shards of a gradient, if it is divided
    shard_group: Optional[dist.ProcessGroup] = None

    def _clip_grad(self) -> None:
        clipped: Dict[str, List[nn.Parameter]] = {}
        for group in self.optimizer.param_groups:
            part = group.get('part', 'base')
            name = part if part in ('geometry', 'quality') else ''
            clipped.setdefault(name, []).extend(p for p in group['params'] if p.grad is not None)
        clip = self.clip_func
        if self.shard_group is not None and clip is clip_grad_norm_:
            clip = partial(_clip_shards, self.shard_group)
        norms: Dict[str, Tensor] = {}
        for name, parameters in clipped.items():
            if not parameters and self.shard_group is None:
                continue
            norm = clip(parameters, **self.clip_grad_kwargs)
            if norm is not None:
                norms[f'train/{self.grad_name}' + (f'_{name}' if name else '')] = norm
        if norms:  # one copy for all
            for key, value in zip(norms, torch.stack(list(norms.values())).cpu()):
                self.message_hub.update_scalar(key, value)


def _clip_shards(
    group: dist.ProcessGroup,
    parameters: List[nn.Parameter],
    max_norm: float,
    norm_type: float = 2.0,
) -> Tensor:
    """``clip_grad_norm_`` of gradients of which each process has a part."""
    grads = [p.grad for p in parameters]
    total = sum((g.float().abs() ** norm_type).sum() for g in grads)
    total = torch.as_tensor(
        total, dtype=torch.float32, device=grads[0].device if grads else get_device()
    )
    dist.all_reduce(total, group=group)
    norm = total ** (1 / norm_type)
    scale = (max_norm / (norm + 1e-6)).clamp(max=1)
    for grad in grads:
        grad.mul_(scale.to(grad.dtype))
    return norm


@OPTIM_WRAPPERS.register_module()
class PartOptimWrapper(_ClipByPart, _FastForward, OptimWrapper):
    """MMEngine's wrapper with gradients clipped by part."""


@OPTIM_WRAPPERS.register_module()
class PartAmpOptimWrapper(_ClipByPart, _FastForward, AmpOptimWrapper):
    """The same for mixed precision on GPUs, with loss scaling.

    With a dynamic ``loss_scale`` a step whose losses or gradients are not finite
    is left out and the scale halved, as ``torch.amp.GradScaler`` does.

    Raises:
        FloatingPointError: If the scale has become so small that no step will be
            taken any more; looked at every 100 steps.
    """

    _steps = 0

    @property
    def _dynamic(self) -> bool:
        return self.loss_scaler.is_enabled() and self._scale_update_param is None

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """MMEngine's; losses that are not finite are the scaler's matter."""
        unwrap(model).scales_losses = self._dynamic
        with super().optim_context(model):
            yield

    def step(self, **kwargs: Any) -> None:
        """Step, unless gradients are not finite."""
        super().step(**kwargs)
        self._steps += 1
        # seldom, as the host waits for it; each step that is left out halves it
        if self._dynamic and self._steps % 100 == 0:
            scale = self.loss_scaler.get_scale()
            if scale < _LEAST_SCALE:
                raise FloatingPointError(
                    f'gradients of float16 are not finite, however small the loss scale '
                    f'({scale:.1g}); weights are not updated any more. Set '
                    "optim_wrapper.dtype='bfloat16' or leave out --amp, lower "
                    'optim_wrapper.optimizer.lr, and go on with --resume from the last checkpoint'
                )


@OPTIM_WRAPPERS.register_module()
class PartBf16OptimWrapper(_ClipByPart, _FastForward, OptimWrapper):
    """The same for mixed precision in bfloat16, which needs no scaling."""

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Run the forward pass in bfloat16."""
        with super().optim_context(model), autocast(dtype=torch.bfloat16):
            yield
