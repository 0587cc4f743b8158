"""How many images of a test go through the network at once."""

from contextlib import contextmanager
from typing import Any, Iterator

import torch
from mmengine.runner import Runner

from .unwrap import unwrap


def images_per_pass(runner: Runner, dataloader: Any) -> int:
    """What the config says, or what suits the device.

    Without ``model.test_cfg.images_per_pass`` it is 1 on CPUs, where more are not
    faster, and with ``randomness.deterministic=True``, so that detections do not
    depend on the batch to the last bit. On GPUs it is the data loader's batch.

    Args:
        runner (Runner): With the config.
        dataloader (DataLoader): Of the test.
    """
    said = (runner.cfg.model.get('test_cfg') or {}).get('images_per_pass')
    if said is not None:
        return said
    deterministic = (runner.cfg.get('randomness') or {}).get('deterministic', False)
    if deterministic or not torch.cuda.is_available():
        return 1
    return dataloader.batch_size or 1


@contextmanager
def in_passes(runner: Runner, dataloader: Any) -> Iterator[int]:
    """Let the detector take so many at once, while it lasts; see above."""
    number = images_per_pass(runner, dataloader)
    cfg = getattr(unwrap(runner.model), 'test_cfg', None)
    if not isinstance(cfg, dict) or 'images_per_pass' not in cfg:  # another detector
        yield number
        return
    before, cfg['images_per_pass'] = cfg['images_per_pass'], number
    try:
        yield number
    finally:
        cfg['images_per_pass'] = before
