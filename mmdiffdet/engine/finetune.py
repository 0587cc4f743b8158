"""Training that starts from somebody's checkpoint, on data of one's own."""

from typing import Mapping, Optional

from mmengine.config import Config

from ..utils import leaf_datasets
from .epochs import use_epochs

FINETUNE_EPOCHS = 24


def start_from(cfg: Config, checkpoint: str) -> None:
    """Start from a checkpoint's weights, whatever its classes.

    Those whose shape depends on the number of classes start fresh, see
    ``CheckpointGuardHook.classes_start_fresh``; all else must fit.

    Args:
        cfg (Config): Changed in place.
        checkpoint (str): A path or an address.
    """
    cfg.load_from, cfg.resume = checkpoint, False
    if cfg.model.get('backbone'):
        cfg.model.backbone.init_cfg = None  # the checkpoint has these weights
    hooks = cfg.setdefault('default_hooks', {})
    hooks.setdefault('checkpoint_guard', dict(type='CheckpointGuardHook'))
    hooks['checkpoint_guard']['classes_start_fresh'] = True


def use_schedule(
    cfg: Config, epochs: Optional[int], finetune: bool, options: Optional[Mapping[str, object]]
) -> None:
    """Train by epochs if that is asked for, or if this is a fine-tuning and nothing
    is.

    Args:
        cfg (Config): Changed in place.
        epochs (int, optional): ``--epochs``.
        finetune (bool): Whether it is a fine-tuning: 24 epochs.
        options (Mapping, optional): ``--cfg-options``, which may set the schedule, or
            the epochs between checkpoints.

    Raises:
        ValueError: If both set it.
    """
    interval = (options or {}).get('default_hooks.checkpoint.interval')
    lengths = [key for key in options or {} if key.startswith(('train_cfg', 'param_scheduler'))]
    if epochs is not None and lengths:
        raise ValueError(f'--epochs and --cfg-options {lengths[0]} both set the schedule')
    if epochs is None and (lengths or not finetune):
        return
    use_epochs(cfg, FINETUNE_EPOCHS if epochs is None else epochs)
    if interval is not None:
        cfg.default_hooks.checkpoint.interval = interval  # of epochs


def use_on_bad_image(cfg: Config, choice: Optional[str]) -> None:
    """Set ``on_bad_image`` of all data sets of a config.

    Args:
        cfg (Config): Changed in place.
        choice (str, optional): ``'stop'``, ``'skip'``, or None to leave it as it is.
    """
    if choice is None:
        return
    for split in ('train', 'val', 'test'):
        loader = cfg.get(f'{split}_dataloader')
        for dataset in leaf_datasets(loader.dataset) if loader else []:
            dataset['on_bad_image'] = choice
