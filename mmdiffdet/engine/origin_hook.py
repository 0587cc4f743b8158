"""Where a training started from, kept in its checkpoints."""

from typing import Any, Dict, Optional

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.runner.base_loop import BaseLoop

from ..registry import HOOKS
from .checkpoint import sha256_of_checkpoint


@HOOKS.register_module()
class OriginHook(Hook):
    """Write ``load_from`` and its hash to ``meta['origin']``.

    A resumed training hands on what it was started from, and must have the
    same train seed.
    """

    def __init__(self) -> None:
        self.origin: Optional[Dict[str, str]] = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: Dict[str, Any]) -> None:
        """Remember the origin.

        Raises:
            ValueError: If a training is resumed with another train seed.
        """
        if not isinstance(runner._train_loop, BaseLoop):
            return  # a test
        meta = checkpoint.get('meta') or {}
        if not runner._resume:
            self.origin = dict(
                path=runner._load_from, sha256=sha256_of_checkpoint(runner._load_from)
            )
            return
        self.origin = meta.get('origin')
        if meta.get('seed') not in (None, runner.seed):
            raise ValueError(
                f'{runner._load_from or runner.work_dir} is of a training with train seed '
                f'{meta["seed"]!r}, this one has {runner.seed}: choose another '
                '--work-dir, or give --train-seed'
            )

    @master_only
    def before_save_checkpoint(self, runner: Runner, checkpoint: Dict[str, Any]) -> None:
        """Hand it on."""
        checkpoint['meta']['origin'] = self.origin
