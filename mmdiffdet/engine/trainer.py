"""What a training needs besides its config: precision, lock, runner."""

import importlib.util
import os
import os.path as osp
from contextlib import contextmanager
from typing import Iterator, Optional, Union

import torch
from filelock import FileLock, Timeout
from mmengine.config import Config, ConfigDict
from mmengine.registry import RUNNERS
from mmengine.runner import FlexibleRunner, Runner
from torch import nn

from ..device import channels_last_on_gpu
from .epochs import fit_sampler
from .part_optim import freeze_parts, frozen_parts
from .precision import warn_if_emulated

# MMEngine's backends and what they import
_PACKAGES = dict(
    TensorboardVisBackend='tensorboard',
    WandbVisBackend='wandb',
    MLflowVisBackend='mlflow',
    ClearMLVisBackend='clearml',
    NeptuneVisBackend='neptune',
    DVCLiveVisBackend='dvclive',
    AimVisBackend='aim',
)


def require_packages(cfg: Config) -> None:
    """Raise ValueError if a backend of the visualizer lacks its package."""
    for backend in (cfg.get('visualizer') or {}).get('vis_backends') or []:
        package = _PACKAGES.get(backend['type'].split('.')[-1])
        if package and importlib.util.find_spec(package) is None:
            raise ValueError(
                f'visualizer.vis_backends: {backend["type"]} needs a package that is missing: '
                f'pip install {package}'
            )


def use_amp(cfg: Config, on: bool) -> None:
    """Mixed precision, as this machine does it.

    float16 with loss scaling on GPUs (``PartAmpOptimWrapper``); mmengine's
    wrapper asks for a GPU, so on CPUs bfloat16 (``PartBf16OptimWrapper``). A
    teacher whose precision is not given has the student's, so that they can
    share a frozen backbone's maps.

    Args:
        cfg (Config): Changed in place.
        on (bool): Whether to switch it on; a config that has it on is kept.

    Raises:
        ValueError: If it is to be switched on and ``optim_wrapper`` is of a
            type that has no such form.
    """
    gpu = torch.cuda.is_available()
    wrapper = cfg.optim_wrapper
    kind = wrapper.setdefault('type', 'OptimWrapper')
    if on and kind in ('PartOptimWrapper', 'OptimWrapper'):
        # MMDetection's own way for a model of MMDetection
        kind = kind.replace('OptimWrapper', 'AmpOptimWrapper')
        if kind == 'AmpOptimWrapper' and not gpu:
            kind = 'PartAmpOptimWrapper'  # MMEngine's asks for a GPU
        wrapper.update(type=kind, loss_scale='dynamic')
    elif on and 'Amp' not in kind and 'Bf16' not in kind:
        raise ValueError(
            f'--amp: optim_wrapper.type is {kind}; use PartOptimWrapper or OptimWrapper, or leave '
            'out --amp'
        )
    if kind == 'PartAmpOptimWrapper':
        bf16 = not gpu or 'bfloat16' in str(wrapper.get('dtype'))
        for hook in cfg.get('custom_hooks', []):
            if hook.get('teacher'):
                hook.teacher.setdefault('precision', 'bf16' if bf16 else 'fp16')
        if not gpu:
            warn_if_emulated()
            wrapper.type = 'PartBf16OptimWrapper'
            wrapper.pop('loss_scale', None)


@contextmanager
def training_lock(work_dir: str, launcher: str = 'none') -> Iterator[None]:
    """Hold a work directory, so that no second training writes to it.

    Args:
        work_dir (str): Of the training; made if missing.
        launcher (str): Of its processes, of which the first one holds it.

    Raises:
        BlockingIOError: If another process holds it.
    """
    # mmengine sets RANK itself for these, but later
    variable = dict(slurm='SLURM_PROCID', mpi='OMPI_COMM_WORLD_RANK').get(launcher, 'RANK')
    if int(os.environ.get(variable, 0)) > 0:
        yield
        return
    os.makedirs(work_dir, exist_ok=True)
    lock = FileLock(osp.join(work_dir, '.lock'), timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise BlockingIOError(
            f'{work_dir}: another process is training there; wait for it or '
            'choose another --work-dir'
        ) from error
    try:
        yield
    finally:
        lock.release()


class Trainer(Runner):
    """MMEngine's runner; the model is made ready before it is wrapped.

    A wrapper for several processes waits for the gradients of all weights that
    had some when it was made, so parts are frozen before.
    """

    def wrap_model(self, model_wrapper_cfg: Optional[dict], model: nn.Module) -> nn.Module:
        """Freeze, lay out, then as MMEngine does."""
        wrapper = self.cfg.get('optim_wrapper') or {}
        if wrapper.get('constructor') == 'PartOptimWrapperConstructor':
            freeze_parts(model, frozen_parts(wrapper.get('paramwise_cfg')))
        return super().wrap_model(model_wrapper_cfg, channels_last_on_gpu(model))


def build_trainer(cfg: Config) -> Union[Runner, FlexibleRunner]:
    """The runner of a training, with its strategy if the config has one.

    In a training by epochs ``SeededInfiniteSampler`` becomes
    ``SeededDefaultSampler``.

    Raises:
        ValueError: If an epoch would never end, a package that the config needs is
            missing, or the strategy needs several processes and there is one, or
            GPUs and there is none, or a hook that does without it.
    """
    fit_sampler(cfg)
    require_packages(cfg)
    if 'runner_type' not in cfg:
        if cfg.get('strategy'):
            raise ValueError(
                f'strategy {cfg.strategy.get("type")} needs runner_type=FlexibleRunner, without '
                'which it would do nothing'
            )
        return Trainer.from_cfg(cfg)
    strategy = cfg.get('strategy') or ConfigDict(type='SingleDeviceStrategy')
    if strategy.type != 'SingleDeviceStrategy':
        if cfg.launcher == 'none':
            raise ValueError(
                f'strategy {strategy.type} needs a launcher: '
                'train by tools/dist_train.sh or slurm_train.sh'
            )
        if not torch.cuda.is_available() and strategy.type != 'WholeFSDPStrategy':
            raise ValueError(
                f'strategy {strategy.type} needs GPUs; on CPUs use '
                'WholeFSDPStrategy, or neither runner_type nor strategy'
            )
        refused = [
            hook.type
            for hook in cfg.get('custom_hooks') or []
            if hook.type in ('EMAHook', 'CompileHook', 'ConsistencyModelHook')
        ]
        if refused:  # they would see a part of each weight
            raise ValueError(
                f'{", ".join(refused)} of custom_hooks cannot be '
                f'combined with strategy {strategy.type}'
            )
    # use_device_options has set it; strategies refuse what they do not know
    (cfg.get('env_cfg') or {}).pop('float32_matmul_precision', None)
    return RUNNERS.build(cfg)
