"""What the command lines of training and testing share."""

import argparse
import logging
import os
import sys
import traceback
from pathlib import Path
from typing import Callable

import torch
from mmengine.config import Config, DictAction

from ..paths import PACKAGE, TOOLS
from .compile_hook import use_compile
from .config_file import read_config
from .processes import use_cpu_processes


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add MMDetection's arguments that both commands take."""
    parser.add_argument(
        '--train-seed',
        type=int,
        help='of the training; outputs and the trainings before are in '
        'work_dirs/<name>_seed<train seed>',
    )
    parser.add_argument(
        '--part',
        nargs='+',
        default=[],
        metavar='NAME',
        help='put parts on the recipe, e.g. d3pm_quality amp_ema: files of '
        'configs/_base_/parts, or of yours',
    )
    parser.add_argument(
        '--work-dir', help='where logs and models go, by default work_dirs/<config name>'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='override the config, e.g. model.sampler.sampling_timesteps=4 '
        'model.sampler.scheduler.type=DPMSolverMultistepScheduler '
        'model.sampler.renewal=None; lists as key="[a,b]" without spaces',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher',
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


def load_config(args: argparse.Namespace) -> Config:
    """Read ``args.config`` and apply the common arguments.

    Raises:
        FileNotFoundError, ValueError: See :func:`read_config`.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = read_config(args.config, args.train_seed, args.cfg_options, args.part)
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    use_compile(cfg)
    if args.launcher != 'none':
        multipliers = cfg.get('optim_wrapper', {}).get('paramwise_cfg') or {}
        if 0 in multipliers.values():
            # parts are frozen after the wrapper for processes is made
            cfg.find_unused_parameters = True
        if not torch.cuda.is_available():
            use_cpu_processes(cfg)
    return cfg


def run_command(main: Callable[[], None]) -> None:
    """Run what a command does.

    Files and settings that are wrong end in one line on the error stream. So
    are errors told that this package raised itself, and options that a class
    of the config does not have; others keep their traceback. A process of
    several ends at once: the interpreter's own end can abort in a thread that
    a process group left behind, and torch's launcher then calls the run a
    failure.

    Args:
        main (Callable): The command.
    """
    try:
        main()
    except (OSError, ValueError) as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        ours = any(Path(frame.filename).resolve().is_relative_to(p) for p in (PACKAGE, TOOLS))
        # what is not a raise of ours is a mistake of ours, or somebody else's
        if not ours or not (frame.line or '').startswith('raise'):
            raise
        sys.exit(f'ERROR: {error}')
    except TypeError as error:
        caller = traceback.extract_tb(error.__traceback__)[-1].filename
        if 'got an unexpected keyword argument' not in str(error) or Path(caller).parts[-2:] != (
            'registry',
            'build_functions.py',
        ):
            raise
        sys.exit(
            f'ERROR: {error}. Is it misspelt in the config, or in '
            '--cfg-options? The docstring of the class has its options'
        )
    if int(os.environ.get('WORLD_SIZE', 1)) > 1:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
