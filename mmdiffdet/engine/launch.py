"""What the command lines of training and testing share."""
import argparse
import fcntl
import logging
import os
import os.path as osp
import sys
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterator, Optional, Union

import torch
import torch.distributed as dist
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.registry import RUNNERS
from mmengine.runner import FlexibleRunner, Runner

from ..datasets.from_file import use_classes_of_file, use_extra_coco
from .compile_hook import use_compile


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add MMDetection's arguments that both commands take."""
    parser.add_argument(
        '--train-seed',
        type=int,
        help='of the training; outputs and the stages before are in '
        'work_dirs/<name>_seed<train seed>')
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


def read_config(path: str,
                train_seed: Optional[int] = None,
                options: Optional[dict] = None) -> Config:
    """Read a config file and give it its seed and work directory.

    Names of ``EXTRA_COCO_DATASETS`` and classes that are to be read from the
    annotation file are filled in.

    Args:
        path (str): The file.
        train_seed (int, optional): Of a training; config files read it as
            ``TRAIN_SEED``. Outputs go to ``work_dirs/<name>_seed<train_seed>``
            (``work_dirs/<name>`` without a seed, or where the file says).
        options (dict, optional): Changes, as of ``--cfg-options``.

    Raises:
        FileNotFoundError: If the config does not exist, or an annotation file
            whose classes it asks for.
        ValueError: If it sets another train seed, or there is something wrong
            with data that it leaves to be filled in.
    """
    if not osp.isfile(path):
        raise FileNotFoundError(f'config {path} does not exist')
    with _train_seed(train_seed):
        cfg = Config.fromfile(path)
    if cfg.get('work_dir') is None:
        cfg.work_dir = osp.join('work_dirs',
                                osp.splitext(osp.basename(path))[0])
    if train_seed is not None:
        check_train_seed(cfg, train_seed)
        if not cfg.work_dir.endswith(f'_seed{train_seed}'):
            cfg.work_dir += f'_seed{train_seed}'
    if options is not None:
        cfg.merge_from_dict(options)
        if train_seed is not None:
            check_train_seed(cfg, train_seed)
    use_extra_coco(cfg)
    use_classes_of_file(cfg)
    return cfg


def check_train_seed(cfg: Config, train_seed: int) -> None:
    """Raise ValueError if a config has another train seed."""
    found = cfg.get('randomness', {}).get('seed')
    if found != train_seed:
        raise ValueError(f'train seed {train_seed}: {cfg.filename} or '
                         f'--cfg-options set randomness.seed={found}')


@contextmanager
def _train_seed(seed: Optional[int]) -> Iterator[None]:
    """Tell config files, and nobody else."""
    before = os.environ.pop('TRAIN_SEED', None)
    if seed is not None:
        os.environ['TRAIN_SEED'] = str(seed)
    try:
        yield
    finally:
        os.environ.pop('TRAIN_SEED', None)
        if before is not None:
            os.environ['TRAIN_SEED'] = before


def load_config(args: argparse.Namespace) -> Config:
    """Read ``args.config`` and apply the common arguments.

    Raises:
        FileNotFoundError, ValueError: See :func:`read_config`.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = read_config(args.config, args.train_seed, args.cfg_options)
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
            _use_cpu_processes(cfg)
    return cfg


def use_amp(cfg: Config, on: bool) -> None:
    """Mixed precision, as this machine does it.

    float16 with loss scaling on GPUs (``PartAmpOptimWrapper``); mmengine's
    wrapper asks for a GPU, so on CPUs bfloat16 (``PartBf16OptimWrapper``). A
    teacher whose precision is not given takes part where bfloat16 is there.

    Args:
        cfg (Config): Changed in place.
        on (bool): Whether to switch it on; a config that has it on is kept.
    """
    gpu = torch.cuda.is_available()
    wrapper = cfg.optim_wrapper
    if on and wrapper.type == 'PartOptimWrapper':
        wrapper.update(type='PartAmpOptimWrapper', loss_scale='dynamic')
    if wrapper.type == 'PartAmpOptimWrapper':
        if not gpu or torch.cuda.is_bf16_supported():
            for hook in cfg.get('custom_hooks', []):
                if 'teacher' in hook:
                    hook.teacher.setdefault('precision', 'bf16')
        if not gpu:
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
    variable = dict(slurm='SLURM_PROCID', mpi='OMPI_COMM_WORLD_RANK').get(
        launcher, 'RANK')
    if int(os.environ.get(variable, 0)) > 0:
        yield
        return
    os.makedirs(work_dir, exist_ok=True)
    with open(osp.join(work_dir, '.lock'), 'a') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(
                f'{work_dir}: another process is training there; wait for it '
                'or choose another --work-dir') from error
        yield


def require_checkpoint(path: str, what: str) -> None:
    """Raise FileNotFoundError, with the command that makes it, if missing.

    A training's outputs are in a folder with the name of its config.

    Args:
        path (str): A local path or an address, which is not looked up.
        what (str): What it is for, e.g. ``load_from``.
    """
    if '://' in path or osp.isfile(path):
        return
    if osp.basename(path) == 'mobilenet_v2_imagenet.safetensors':
        raise FileNotFoundError(
            f'{what}: {path} does not exist. It is made by: python '
            'tools/fetch_mobilenet_v2.py; model.backbone.init_cfg=None '
            'trains without it')
    folder = osp.basename(osp.dirname(path))
    plain, _, seed = folder.rpartition('_seed')
    way = 'Give the path of one that exists'
    for name, option in ((folder, ''), (plain, f' --train-seed {seed}')):
        files = (Path(__file__).parents[2] / 'configs').rglob(f'{name}.py')
        found = sorted(p for p in files if '_base_' not in p.parts)
        if found and option and any(found[0].parent.glob(f'{name}_seed*.py')):
            way = (f'There is no {osp.relpath(found[0].parent)}/{folder}.py '
                   'that would make it')
            break
        if found:
            way = ('It is made by: python tools/train.py '
                   f'{osp.relpath(found[0])}{option}')
            break
    raise FileNotFoundError(
        f'{what}: checkpoint {osp.abspath(path)} does not exist. {way}')


def build_trainer(cfg: Config) -> Union[Runner, FlexibleRunner]:
    """The runner of a training, with its strategy if the config has one.

    Raises:
        ValueError: If the strategy needs several processes and there is one,
            or GPUs and there is none, or a hook that does without it.
    """
    if 'runner_type' not in cfg:
        return Runner.from_cfg(cfg)
    strategy = cfg.get('strategy') or ConfigDict(type='SingleDeviceStrategy')
    if strategy.type != 'SingleDeviceStrategy':
        if cfg.launcher == 'none':
            raise ValueError(f'strategy {strategy.type} needs a launcher: '
                             'train by tools/dist_train.sh or slurm_train.sh')
        if not torch.cuda.is_available() and \
                strategy.type != 'WholeFSDPStrategy':
            raise ValueError(
                f'strategy {strategy.type} needs GPUs; on CPUs use '
                'WholeFSDPStrategy, or neither runner_type nor strategy')
        refused = [hook.type for hook in cfg.get('custom_hooks') or []
                   if hook.type in ('EMAHook', 'CompileHook')]
        if refused:  # they would see a part of each weight
            raise ValueError(f'{", ".join(refused)} of custom_hooks cannot be '
                             f'combined with strategy {strategy.type}')
    return RUNNERS.build(cfg)


def leave_processes() -> None:
    """Leave the process group in order."""
    if dist.is_initialized():
        dist.destroy_process_group()


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
        raised_in = Path(
            traceback.extract_tb(error.__traceback__)[-1].filename)
        if not raised_in.is_relative_to(Path(__file__).parents[1]):
            raise
        sys.exit(f'ERROR: {error}')
    except TypeError as error:
        caller = traceback.extract_tb(error.__traceback__)[-1].filename
        if ('got an unexpected keyword argument' not in str(error)
                or not caller.endswith('registry/build_functions.py')):
            raise
        sys.exit(f'ERROR: {error}. Is it misspelt in the config, or in '
                 '--cfg-options? The docstring of the class has its options')
    if int(os.environ.get('WORLD_SIZE', 1)) > 1:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


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
