"""Processes of a distributed run."""

import os

import torch
import torch.distributed as dist
from mmengine.config import Config


def leave_processes() -> None:
    """Leave the process group in order."""
    if dist.is_initialized():
        dist.destroy_process_group()


def use_cpu_processes(cfg: Config) -> None:
    """Processes without GPUs talk through gloo.

    mmengine's launcher would pick a GPU for each; it leaves a process group
    alone that exists. Its default wrapper names devices, so ours is set here.

    Raises:
        ValueError: If the launcher does not set torch's variables.
    """
    if cfg.launcher != 'pytorch':
        raise ValueError(
            f'--launcher {cfg.launcher} needs GPUs; on CPUs use '
            'tools/dist_train.sh or tools/dist_test.sh'
        )
    dist.init_process_group('gloo')
    cfg.env_cfg.dist_cfg.backend = 'gloo'
    cfg.model_wrapper_cfg = dict(
        dict(
            device_ids=None,
            broadcast_buffers=False,
            find_unused_parameters=cfg.get('find_unused_parameters', False),
        ),
        **cfg.get('model_wrapper_cfg', {}),
    )
    threads = max(1, (os.cpu_count() or 1) // dist.get_world_size())
    torch.set_num_threads(min(torch.get_num_threads(), threads))
