"""Numbers of the host on the device, and what a config says of GPUs."""

from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor, nn

MATMUL_PRECISIONS = ('highest', 'high', 'medium')


def on_device(
    values: Any, device: torch.device | str, dtype: torch.dtype = torch.float32
) -> Tensor:
    """A tensor on a device of a number, nested sequences of numbers, or a CPU tensor.

    ``torch.tensor(values, device='cuda')`` and ``new_tensor`` would have the host
    wait until the device has done all its work.
    """
    return torch.as_tensor(values, dtype=dtype).to(device, non_blocking=True)


def use_device_options(cfg: Config) -> None:
    """Do what a config asks for where there is a GPU; elsewhere nothing.

    Data loaders get ``pin_memory``, so that copies of images do not wait, unless
    they say otherwise. ``env_cfg.float32_matmul_precision`` becomes PyTorch's
    (``torch.set_float32_matmul_precision``): ``high`` multiplies matrices of
    float32 in TF32. So do cuDNN's convolutions, of which PyTorch asks TF32 by
    itself, unless it is ``highest``. On CPUs it would change results, so it has no effect there.

    Args:
        cfg (Config): Changed in place.

    Raises:
        ValueError: If the precision is unknown.
    """
    precision = (cfg.get('env_cfg') or {}).get('float32_matmul_precision', 'highest')
    if precision not in MATMUL_PRECISIONS:
        raise ValueError(
            f'env_cfg.float32_matmul_precision: unknown {precision!r}; choose from '
            f'{list(MATMUL_PRECISIONS)}'
        )
    if not torch.cuda.is_available():
        return
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.allow_tf32 = precision != 'highest'
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        if cfg.get(name):
            cfg[name].setdefault('pin_memory', True)


def uses_tf32() -> bool:
    """Whether products or convolutions of float32 are less precise than float32."""
    exact = torch.get_float32_matmul_precision() == 'highest'
    return torch.cuda.is_available() and not (exact and not torch.backends.cudnn.allow_tf32)


def channels_last_on_gpu(model: nn.Module) -> nn.Module:
    """Lay out weights of convolutions as ``mmdiffdet.fast`` does their inputs.

    cuDNN otherwise turns each of them at every call. Checkpoints are the same.

    Args:
        model (nn.Module): Changed in place where there is a GPU.
    """
    return model.to(memory_format=torch.channels_last) if torch.cuda.is_available() else model
