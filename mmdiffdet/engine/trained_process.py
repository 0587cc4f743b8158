"""Whether a model is sampled by the process that it was trained for."""

from typing import Any, Dict

from torch import nn

from ..config.text import parse_config_text


def check_trained_process(model: nn.Module, meta: Dict[str, Any], source: object) -> None:
    """Compare a detector's scheduler with the one that its weights were trained with.

    Weights of diffusion and of flow matching have the same names and shapes, but
    a timestep means another noise to them. Nothing is compared if the checkpoint
    does not say how it was trained.

    Args:
        model (Module): A detector; others are left alone.
        meta (dict): Of the checkpoint, with the dumped config as ``cfg``.
        source (object): The checkpoint's name, for the message.

    Raises:
        ValueError: If the processes differ.
    """
    # diffusers takes a second to import, which --help need not wait for
    from ..diffusion.box_schedulers import build_box_scheduler, same_process

    mine = getattr(getattr(model, 'sampler', None), 'scheduler', None)
    text = meta.get('cfg')
    then = parse_config_text(text) if isinstance(text, str) else None
    try:
        trained = build_box_scheduler(then['model']['sampler']['scheduler'])
    except (AttributeError, KeyError, TypeError, ValueError):
        return  # of another kind, or of another version
    if mine is not None and not same_process(mine, trained):
        raise ValueError(
            f'checkpoint {source} was trained with {type(trained).__name__}, the config has '
            f'{type(mine).__name__} or another schedule, to which a timestep means another noise: '
            'use the config, and --part, that it was trained with'
        )
