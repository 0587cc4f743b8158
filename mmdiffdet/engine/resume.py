"""Going on with a training: from which checkpoint, and whether it can."""

import logging
import os.path as osp
import re
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.runner import Runner

from .checkpoint import load_checkpoint_file

# of an optimiser's groups, what its config says
_OF_CONFIG = ('initial_lr', 'weight_decay', 'betas', 'momentum', 'eps')
_OF_DEVICE = ('fused', 'foreach', 'capturable')
# of a scheduler's state, what changes while it runs
_OF_COURSE = ('last_step', '_global_step', '_last_lr', '_last_value', 'base_values', 'verbose')


def latest_checkpoint(work_dir: str) -> Optional[str]:
    """The checkpoint that ``--resume`` goes on from.

    It is what ``last_checkpoint`` names. Where that file is missing, empty or
    names a file that is not there (a run was killed while writing, or its
    folder was moved), it is the newest checkpoint of the folder that can be
    read, which is told.

    Args:
        work_dir (str): Of the training.

    Returns:
        str | None: None if there is no whole checkpoint, as after a kill in
        the middle of the first save.

    Raises:
        FileNotFoundError: If ``last_checkpoint`` names a file that is not
            there, and no other can be read.
    """
    folder = Path(work_dir)
    record = folder / 'last_checkpoint'
    said = record.read_text(errors='replace').strip() if record.is_file() else ''
    if said and osp.isfile(said):
        return said
    found = [
        (int(match[1]), path.stat().st_mtime, path)
        for path in folder.glob('*.pth')
        if (match := re.fullmatch(r'(?:iter|epoch)_(\d+)\.pth', path.name))
    ]
    unread: List[str] = []
    for _, _, path in sorted(found, reverse=True):
        try:
            load_checkpoint_file(path)
        except ValueError as error:
            unread.append(str(error))
            continue
        print_log(
            f'{record} {f"names {said}, which is not there" if said else "is missing or empty"}; '
            f'going on from {path}',
            'current',
            logging.WARNING,
        )
        return str(path)
    if unread and not said:  # a kill in the middle of the first save
        print_log(
            f'no checkpoint of {work_dir} is whole ({unread[0]}); starting anew',
            'current',
            logging.WARNING,
        )
        return None
    if said:
        raise FileNotFoundError(
            f'--resume: {record} names {said}, which is not there; remove {record} to start anew'
        )
    return None


def use_resume(cfg: Config, resume: Optional[str]) -> None:
    """Set what ``--resume`` asks for.

    Args:
        cfg (Config): Changed in place.
        resume (str, optional): A checkpoint, ``auto`` for the latest one of
            the work directory, from which a first start has none, or None.
    """
    if resume is None:
        return
    if resume != 'auto':
        cfg.resume, cfg.load_from = True, resume
        return
    latest = latest_checkpoint(cfg.work_dir)
    if latest is not None:
        # by name also for the processes that do not read the folder at once
        cfg.resume, cfg.load_from = True, latest


def check_resume(runner: Runner, checkpoint: Mapping[str, Any], source: object) -> None:
    """See whether a training can go on as its config says.

    Called when MMEngine has made optimiser and schedulers from the config and
    before it fills them with what the checkpoint has.

    Args:
        runner (Runner): Of the training.
        checkpoint (Mapping): As it was read.
        source (object): Its path.

    Raises:
        ValueError: If it holds weights alone, or is not of this optimiser: its
            state would silently replace the config's learning rate.
    """
    _check_content(checkpoint, source)
    state = checkpoint['optimizer']
    # the wrapper's own has a further group with the base values
    groups = getattr(getattr(runner.optim_wrapper, 'optimizer', None), 'param_groups', None)
    saved = state.get('param_groups') if isinstance(state, dict) else None
    if not isinstance(groups, list):
        return  # of several optimisers
    if not isinstance(saved, list) or not all(isinstance(g, dict) for g in saved):
        raise ValueError(f'--resume {source}: its optimizer has no param_groups; {_WAY}')
    sizes = [[len(g.get('params', ())) for g in g_list] for g_list in (groups, saved)]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f'--resume {source}: its optimizer has {len(saved)} groups of {sum(sizes[1])} '
            f'parameters, this config makes {len(groups)} of {sum(sizes[0])}; {_WAY}'
        )
    for mine, theirs in zip(groups, saved):
        # which kernels do the work: the config's choice, not what went before
        theirs.update({key: mine[key] for key in _OF_DEVICE if key in mine and key in theirs})
        for key in _OF_CONFIG:
            if key in mine and key in theirs and not _same(mine[key], theirs[key]):
                name = 'lr' if key == 'initial_lr' else key
                raise ValueError(
                    f'--resume: optim_wrapper.optimizer.{name} makes {mine[key]} of this config, '
                    f'{source} was trained with {theirs[key]} and would go on with that. Give the '
                    'same, or start from its weights with load_from and without --resume'
                )
    changed = _changes(runner, checkpoint.get('param_schedulers'))
    if changed:
        print_log(
            f'--resume: param_scheduler differs from that of {source} ({", ".join(changed)}), '
            "which goes on; to use the config's, start from its weights with load_from",
            'current',
            logging.WARNING,
        )


def lay_out_states(optimizer: torch.optim.Optimizer) -> None:
    """Lay out the states of weights in memory as the weights are.

    A checkpoint of a CPU has them contiguous, where a GPU has weights of convolutions
    channels last: PyTorch's fused optimisers refuse that, others become slow.

    Args:
        optimizer (Optimizer): Changed in place.
    """
    for weight, state in optimizer.state.items():
        for name, value in state.items():
            if torch.is_tensor(value) and value.shape == weight.shape:
                if value.stride() != weight.stride():
                    state[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)


_WAY = 'to start from its weights, give it as load_from and leave out --resume'


def _check_content(checkpoint: Mapping[str, Any], source: object) -> None:
    meta = checkpoint.get('meta')
    missing = [k for k in ('optimizer', 'param_schedulers', 'message_hub') if k not in checkpoint]
    if not isinstance(meta, dict) or missing:
        raise ValueError(
            f'--resume {source}: it holds weights alone '
            f'(no {", ".join(missing or ["meta"])}) and no training can go on from it; {_WAY}'
        )
    for key in ('epoch', 'iter'):
        value = meta.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise ValueError(f'--resume {source}: meta.{key} is {value!r}, no count; {_WAY}')
    for key, kinds in (
        ('optimizer', dict),
        ('param_schedulers', (list, dict)),
        ('message_hub', dict),
    ):
        if not isinstance(checkpoint[key], kinds):
            raise ValueError(
                f'--resume {source}: {key} is {type(checkpoint[key]).__name__}, no state; {_WAY}'
            )
    hub = checkpoint['message_hub']
    wrong = {'log_scalars', 'runtime_info', 'resumed_keys'} - set(hub)
    if wrong:
        raise ValueError(
            f'--resume {source}: message_hub has no {", ".join(sorted(wrong))}; {_WAY}'
        )


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(map(_same, a, b))
    if torch.is_tensor(a) or torch.is_tensor(b):
        a, b = torch.as_tensor(a).item(), torch.as_tensor(b).item()
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return abs(a - b) <= 1e-9 * max(abs(a), abs(b))
    return bool(a == b)


def _changes(runner: Runner, saved: Any) -> List[str]:
    """What the schedulers of the config and of the checkpoint differ in."""
    mine = runner.param_schedulers
    if not isinstance(mine, list) or not isinstance(saved, list):
        return []
    if len(mine) != len(saved):
        return [f'{len(mine)} schedulers, not {len(saved)}']
    changed: List[str] = []
    for scheduler, state in zip(mine, saved):
        if not isinstance(state, dict):
            raise ValueError(f'--resume: param_schedulers of the checkpoint has {state!r}; {_WAY}')
        now: Dict[str, Any] = scheduler.state_dict()
        changed += [
            f'{key} {now[key]}, not {state[key]}'
            for key in now
            if key not in _OF_COURSE and key in state and not _same(now[key], state[key])
        ]
    return changed
