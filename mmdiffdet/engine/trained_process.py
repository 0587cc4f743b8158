"""Whether a model is sampled by the process that it was trained for."""

from typing import Any, Dict

import numpy as np
from torch import nn

from ..config.text import parse_config_text
from ..registry import TASK_UTILS


def check_trained_process(model: nn.Module, meta: Dict[str, Any], source: object) -> None:
    """Compare a detector's scheduler and box codec with those that it was trained with.

    Weights of diffusion and of flow matching have the same names and shapes, but
    a timestep means another noise to them; nor do weights tell the signal scale, or
    the mean and deviation of the noise. Nothing is compared if the checkpoint does
    not say how it was trained.

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
        codec = TASK_UTILS.build(then['model'].get('box_codec', dict(type='BoxCodec')))
    except (AttributeError, KeyError, TypeError, ValueError):
        return  # of another kind, or of another version
    if mine is None:
        return
    if not same_process(mine, trained):
        raise ValueError(
            f'checkpoint {source} was trained with {type(trained).__name__}, the config has '
            f'{type(mine).__name__} or another schedule, to which a timestep means another noise: '
            'use the config, and --part, that it was trained with'
        )
    for key in ('scale', 'noise_sigma', 'noise_mean'):
        now, was = (getattr(c, key, 0) for c in (model.box_codec, codec))
        # means of a data set may be added up in another order
        if not np.allclose(now, was, rtol=1e-6):
            raise ValueError(
                f'checkpoint {source}: box_codec.{key} of the config has {now}, it was trained '
                f'with {was}, so that the same noise means other boxes: use the config, and '
                '--part, that it was trained with'
            )
