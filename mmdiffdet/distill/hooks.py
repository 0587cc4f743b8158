"""Attach a teacher to a training."""

from pathlib import Path
from typing import Any, Dict, Optional, Type

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..engine.checkpoint import sha256_of_checkpoint
from ..engine.require_checkpoint import require_checkpoint
from ..engine.unwrap import unwrap
from ..registry import HOOKS
from .distillers import ConsistencyDistiller, Distiller, SamplerDistiller
from .teacher import Teacher


class _DistillHook(Hook):
    """Build the teacher before training and hand the student a distiller.

    The teacher's path and hash are kept in the checkpoints' ``meta``.

    Args:
        teacher (dict): ``checkpoint``; ``config``, a config file, by default
            the student's model; ``precision``, ``fp32``, ``bf16`` or
            ``fp16``.
        kwargs: Of the distiller.

    Raises:
        FileNotFoundError: If there is no checkpoint; names the command that
            makes it. Raised when the hook is built, before any data is read.
        ValueError: If ``teacher`` has an unknown key.
    """

    distiller: Type[Distiller]

    def __init__(self, teacher: Dict[str, Any], **kwargs: Any) -> None:
        unknown = sorted(set(teacher) - {'checkpoint', 'config', 'precision'})
        if unknown or 'checkpoint' not in teacher:
            raise ValueError(
                f'{type(self).__name__}: teacher takes checkpoint, config and '
                f'precision; unknown {unknown}'
                if unknown
                else f'{type(self).__name__}: teacher needs a checkpoint'
            )
        require_checkpoint(teacher['checkpoint'], 'teacher')
        if teacher.get('config') and not Path(teacher['config']).is_file():
            raise FileNotFoundError(
                f'{type(self).__name__}: teacher.config {teacher["config"]} does not exist'
            )
        self.teacher_cfg = dict(teacher)
        self.options = kwargs
        self.teacher_sha256: Optional[str] = None

    def before_train(self, runner: Runner) -> None:
        """Load the teacher and attach it."""
        student = unwrap(runner.model)
        teacher = Teacher.load(student_cfg=runner.cfg.model, **self.teacher_cfg)
        teacher.model.to(next(student.parameters()).device)
        teacher.compare(student)
        student.distiller = self.distiller(teacher, **self.options)
        self.teacher_sha256 = sha256_of_checkpoint(self.teacher_cfg['checkpoint'])
        runner.logger.info(
            f'teacher {self.teacher_cfg["checkpoint"]} '
            f'({self.teacher_sha256[:8]}), backbone '
            + (
                'shared with the student: frozen and equal'
                if teacher.shares_backbone
                else 'of its own'
            )
        )

    @master_only
    def before_save_checkpoint(self, runner: Runner, checkpoint: Dict[str, Any]) -> None:
        """Record who taught."""
        checkpoint['meta']['teacher'] = dict(self.teacher_cfg, sha256=self.teacher_sha256)

    def after_train(self, runner: Runner) -> None:
        """Let the teacher go."""
        unwrap(runner.model).distiller = None


@HOOKS.register_module()
class SamplerDistillHook(_DistillHook):
    """Distil a teacher's many sampling steps into the student's few.

    Adds ``loss_sampler_distill_box`` and ``_cls``. Arguments of
    :class:`~mmdiffdet.distill.distillers.SamplerDistiller` besides
    ``teacher``.
    """

    distiller = SamplerDistiller


@HOOKS.register_module()
class ConsistencyDistillHook(_DistillHook):
    """Distil a teacher's answer to the same noisy boxes.

    Adds ``loss_consistency_box`` and ``_cls``. Arguments of
    :class:`~mmdiffdet.distill.distillers.ConsistencyDistiller` besides
    ``teacher``.
    """

    distiller = ConsistencyDistiller
