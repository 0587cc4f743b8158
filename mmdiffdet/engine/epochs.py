"""Trainings that are counted in epochs instead of iterations."""

from mmengine.config import Config, ConfigDict
from mmengine.dataset import InfiniteSampler

from ..registry import DATA_SAMPLERS


def use_epochs(cfg: Config, max_epochs: int) -> None:
    """Train for a number of epochs, with the schedule of the config stretched.

    The learning rate drops at the same parts of the training as before; warming up
    keeps its iterations. Each epoch ends with a validation and a checkpoint.

    Args:
        cfg (Config): Of a training by iterations or epochs; changed in place.
        max_epochs (int): At least 1.

    Raises:
        ValueError: If there are no epochs, or the config has no length.
    """
    if max_epochs < 1:
        raise ValueError(f'--epochs must be at least 1, got {max_epochs}')
    length = cfg.train_cfg.get('max_epochs') or cfg.train_cfg.get('max_iters')
    if not length:
        raise ValueError('--epochs: train_cfg of the config has neither max_iters nor max_epochs')
    cfg.train_cfg = ConfigDict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1)
    schedulers = cfg.get('param_scheduler') or []
    for scheduler in [schedulers] if isinstance(schedulers, dict) else schedulers:
        if scheduler.get('end') not in (None, length):
            continue  # warming up
        scheduler.update(by_epoch=True, begin=0)
        for key in ('end', 'T_max', 'total_iters', 'max_iters'):
            if key in scheduler:
                scheduler[key] = max_epochs
        if 'milestones' in scheduler:
            stretched = {round(m / length * max_epochs) for m in scheduler.milestones}
            scheduler.milestones = sorted(m for m in stretched if 0 < m < max_epochs)
        if 'step_size' in scheduler:
            scheduler.step_size = max(1, round(scheduler.step_size / length * max_epochs))
    hooks = cfg.setdefault('default_hooks', ConfigDict())
    hooks.setdefault('checkpoint', ConfigDict(type='CheckpointHook'))
    hooks.checkpoint.update(interval=1, by_epoch=True)
    cfg.setdefault('log_processor', ConfigDict(type='LogProcessor')).by_epoch = True


def fit_sampler(cfg: Config) -> None:
    """Give a training by epochs a sampler that comes to an end.

    Args:
        cfg (Config): ``SeededInfiniteSampler`` becomes ``SeededDefaultSampler``.

    Raises:
        ValueError: If another sampler without an end would make the first epoch
            last for ever.
    """
    loop = cfg.get('train_cfg') or {}
    if loop.get('type') != 'EpochBasedTrainLoop' and not loop.get('by_epoch'):
        return
    sampler = (cfg.get('train_dataloader') or {}).get('sampler') or {}
    kind = DATA_SAMPLERS.get(sampler.get('type') or '') if sampler.get('type') else None
    if sampler.get('type') == 'SeededInfiniteSampler':
        sampler.type = 'SeededDefaultSampler'
    elif isinstance(kind, type) and issubclass(kind, InfiniteSampler):
        raise ValueError(
            f'EpochBasedTrainLoop: an epoch of {sampler.type} never ends; set '
            'train_dataloader.sampler.type=SeededDefaultSampler'
        )
