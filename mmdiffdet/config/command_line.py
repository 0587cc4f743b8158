"""The config of a command line, with what its arguments change.

The arguments themselves are in :mod:`mmdiffdet.command`.
"""

import argparse
import os

import torch
from mmengine.config import Config

from ..device import use_device_options
from ..engine.compile_hook import use_compile
from ..engine.processes import use_cpu_processes
from .file import read_config


def load_config(args: argparse.Namespace) -> Config:
    """Read ``args.config`` (see :func:`read_config`) and apply the common arguments."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = read_config(args.config, args.train_seed, args.cfg_options, args.part)
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    use_compile(cfg)
    use_device_options(cfg)
    if args.launcher != 'none':
        if not torch.cuda.is_available():
            use_cpu_processes(cfg)
    return cfg
