"""What the command lines of training and testing share."""
import argparse
import os
import os.path as osp
from pathlib import Path

import torch
import torch.distributed as dist
from mmengine.config import Config, DictAction


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add MMDetection's arguments that both commands take."""
    parser.add_argument(
        '--work-dir', help='where logs and models go, by default '
        'work_dirs/<config name>')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='override the config, e.g. model.sampler.sampling_timesteps=4 '
        'model.sampler.scheduler.type=DPMSolverMultistepScheduler '
        'model.sampler.renewal=None; lists as key="[a,b]" without spaces')
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


def load_config(args: argparse.Namespace) -> Config:
    """Read ``args.config`` and apply the common arguments.

    Raises:
        FileNotFoundError: If the config does not exist.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if not osp.isfile(args.config):
        raise FileNotFoundError(f'config {args.config} does not exist')
    cfg = Config.fromfile(args.config)
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = osp.join(
            'work_dirs',
            osp.splitext(osp.basename(args.config))[0])
    if args.launcher != 'none':
        multipliers = cfg.get('optim_wrapper', {}).get('paramwise_cfg') or {}
        if 0 in multipliers.values():
            # parts are frozen after the wrapper for processes is made
            cfg.find_unused_parameters = True
        if not torch.cuda.is_available():
            _use_cpu_processes(cfg)
    return cfg


def require_checkpoint(path: str, what: str) -> None:
    """Raise FileNotFoundError, with the command that makes it, if missing.

    A training's outputs are in a folder with the name of its config.

    Args:
        path (str): A local path or an address, which is not looked up.
        what (str): What it is for, e.g. ``load_from``.
    """
    if '://' in path or osp.isfile(path):
        return
    name = osp.basename(osp.dirname(path))
    configs = (Path(__file__).parents[2] / 'configs').rglob(f'{name}.py')
    found = sorted(p for p in configs if '_base_' not in p.parts)
    way = 'Give the path of one that exists'
    if found:
        config = osp.relpath(found[0])
        way = f'It is made by: python tools/train.py {config}'
    raise FileNotFoundError(
        f'{what}: checkpoint {osp.abspath(path)} does not exist. {way}')


def _use_cpu_processes(cfg: Config) -> None:
    """Processes without GPUs talk through gloo.

    mmengine's launcher would pick a GPU for each; it leaves a process group
    alone that exists. Its default wrapper names devices, so ours is set here.

    Raises:
        ValueError: If the launcher does not set torch's variables.
    """
    if cfg.launcher != 'pytorch':
        raise ValueError(f'--launcher {cfg.launcher} needs GPUs; on CPUs use '
                         'tools/dist_train.sh or tools/dist_test.sh')
    dist.init_process_group('gloo')
    cfg.env_cfg.dist_cfg.backend = 'gloo'
    cfg.model_wrapper_cfg = dict(
        dict(
            device_ids=None,
            broadcast_buffers=False,
            find_unused_parameters=cfg.get('find_unused_parameters', False)),
        **cfg.get('model_wrapper_cfg', {}))
    threads = max(1, (os.cpu_count() or 1) // dist.get_world_size())
    torch.set_num_threads(min(torch.get_num_threads(), threads))
