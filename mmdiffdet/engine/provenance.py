"""Whether the checkpoints of a work directory are those of its config."""

import json
import os.path as osp
from pathlib import Path
from typing import Any, Dict

from mmengine.config import Config

from ..config.text import parse_config_text
from ..ledger import sha256_of_file
from .checkpoint import load_checkpoint_file
from .resume import latest_checkpoint


def finished(checkpoint: str) -> bool:
    """Whether a training's last checkpoint is there and whole.

    mmengine names a checkpoint in ``last_checkpoint`` after it was written.
    """
    mark = Path(checkpoint).with_name('last_checkpoint')
    return (
        osp.isfile(checkpoint)
        and mark.is_file()
        and osp.basename(mark.read_text().strip()) == osp.basename(checkpoint)
    )


def check_origin(cfg: Config, seed: int) -> None:
    """Compare a work directory's latest checkpoint with the config.

    Compared are train seed, model, optimiser, schedule, distillation, and the
    hash of ``load_from`` now and then. Nothing is compared if there is no
    checkpoint yet, or with files that say nothing of themselves.

    Args:
        cfg (Config): With ``work_dir``.
        seed (int): The train seed.

    Raises:
        RuntimeError: If something differs; names it and the way out.
    """
    if not osp.isdir(cfg.work_dir):
        return
    latest = latest_checkpoint(cfg.work_dir)
    if latest is None or not osp.isfile(latest):
        return
    meta = load_checkpoint_file(latest).get('meta') or {}
    differs = []
    if meta.get('seed', seed) != seed:
        differs.append(f'its train seed is {meta["seed"]}')
    start, origin = cfg.get('load_from'), meta.get('origin')
    if start and origin and osp.isfile(start) and sha256_of_file(start) != origin['sha256']:
        differs.append(f'it was started from another {start}')
    then = parse_config_text(meta.get('cfg', ''))
    if then is not None:
        mine, theirs = _essence(cfg.to_dict()), _essence(then)
        differs += [f'{key} is another' for key in mine if mine[key] != theirs[key]]
    if differs:
        raise RuntimeError(
            f'{latest} is not of this config: {"; ".join(differs)}. Remove '
            f'{cfg.work_dir} to train it anew'
        )


def _essence(cfg: Dict[str, Any]) -> Dict[str, str]:
    """What makes the weights, as text."""
    wrapper = cfg.get('optim_wrapper', {})
    # how a hook's teacher computes is not what it teaches
    hooks = [
        dict(
            hook,
            teacher={k: v for k, v in (hook.get('teacher') or {}).items() if k != 'precision'},
        )
        for hook in cfg.get('custom_hooks') or []
        if 'teacher' in hook or hook['type'].split('.')[-1] == 'ConsistencyModelHook'
    ]
    parts = dict(
        model=cfg.get('model'),
        optimizer=wrapper.get('optimizer'),
        paramwise_cfg=wrapper.get('paramwise_cfg'),
        param_scheduler=cfg.get('param_scheduler'),
        max_iters=cfg.get('train_cfg', {}).get('max_iters'),
        distillation=hooks,
    )
    return {k: json.dumps(v, sort_keys=True) for k, v in parts.items()}
