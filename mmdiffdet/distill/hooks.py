"""Attach a teacher to a training."""

from typing import Any, Callable, Dict, Optional

from mmengine.config import ConfigDict
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..config.file import find_config
from ..engine.checkpoint import sha256_of_checkpoint
from ..engine.require_checkpoint import require_checkpoint
from ..engine.unwrap import unwrap
from ..models.detector import DiffusionDet
from ..registry import HOOKS
from .distillers import ConsistencyDistiller, SamplerDistiller
from .set_distiller import SetDistiller
from .teacher import Teacher


def check_teacher(teacher: Dict[str, Any], who: str) -> None:
    """Check what a config says of a teacher, before any data is read.

    Args:
        teacher (dict): ``checkpoint``; ``config``, a config file, by default
            the student's model; ``precision``, ``fp32``, ``bf16`` or ``fp16``.
        who (str): The hook that it is for.

    Raises:
        FileNotFoundError: If there is no checkpoint; names the command that
            makes it. If there is no such config.
        ValueError: If there is an unknown key, or none ``checkpoint``.
    """
    unknown = sorted(set(teacher) - {'checkpoint', 'config', 'precision'})
    if unknown:
        raise ValueError(
            f'{who}: teacher takes checkpoint, config and precision; unknown {unknown}'
        )
    if 'checkpoint' not in teacher:
        raise ValueError(f'{who}: teacher needs a checkpoint')
    require_checkpoint(teacher['checkpoint'], 'teacher')
    if teacher.get('config'):
        try:
            find_config(teacher['config'])
        except FileNotFoundError as error:
            raise FileNotFoundError(f'{who}: teacher.{error}') from None


def load_teacher(
    teacher_cfg: Dict[str, Any],
    student: DiffusionDet,
    student_cfg: ConfigDict,
    same_signal: bool = True,
) -> Teacher:
    """Load a teacher and compare it with its student.

    Args:
        teacher_cfg (dict): See :func:`check_teacher`.
        student (DiffusionDet): Who learns.
        student_cfg (ConfigDict): What it was built from.
        same_signal (bool): See ``Teacher.compare``.

    Raises:
        ValueError: If the two cannot be compared.
    """
    teacher = Teacher.load(student_cfg=student_cfg, **teacher_cfg)
    teacher.model.to(next(student.parameters()).device)
    teacher.compare(student, same_signal)
    teacher.hold_weights()
    return teacher


def attach(student: DiffusionDet, distiller: Callable) -> None:
    """Let a distiller add its losses to those of the student.

    Args:
        student (DiffusionDet): Who learns.
        distiller (Callable): See ``DiffusionDet.distiller``.

    Raises:
        ValueError: If another hook has attached one, which would then be
            left out without a word.
    """
    if student.distiller is not None:
        raise ValueError(
            f'custom_hooks: {type(student.distiller).__name__} and {type(distiller).__name__} '
            'both want to teach this model; keep one of their hooks'
        )
    student.distiller = distiller


def record_teacher(teacher_cfg: Dict[str, Any]) -> Dict[str, Any]:
    """What a checkpoint's ``meta`` says of the teacher: its config and hash."""
    return dict(teacher_cfg, sha256=sha256_of_checkpoint(teacher_cfg['checkpoint']))


class _DistillHook(Hook):
    """Build the teacher before training and hand the student a distiller.

    The teacher's path and hash are kept in the checkpoints' ``meta``.

    Args:
        teacher (dict): See :func:`check_teacher`, also for what is raised.
        kwargs: Of the distiller.
    """

    distiller: Callable[..., Callable]
    same_signal = True

    def __init__(self, teacher: Dict[str, Any], **kwargs: Any) -> None:
        check_teacher(teacher, type(self).__name__)
        self.teacher_cfg = dict(teacher)
        self.options = kwargs
        self.taught_by: Optional[Dict[str, Any]] = None

    def before_train(self, runner: Runner) -> None:
        """Load the teacher and attach it."""
        student = unwrap(runner.model)
        teacher = load_teacher(self.teacher_cfg, student, runner.cfg.model, self.same_signal)
        attach(student, self.distiller(teacher, **self.options))
        self.taught_by = record_teacher(self.teacher_cfg)
        runner.logger.info(
            f'teacher {self.taught_by["checkpoint"]} '
            f'({self.taught_by["sha256"][:8]}), backbone '
            + (
                'shared with the student: frozen and equal'
                if teacher.shares_backbone
                else 'of its own'
            )
        )

    @master_only
    def before_save_checkpoint(self, runner: Runner, checkpoint: Dict[str, Any]) -> None:
        """Record who taught."""
        checkpoint['meta']['teacher'] = self.taught_by

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


@HOOKS.register_module()
class SetDistillHook(_DistillHook):
    """Give the student the teacher's merged detections as soft objects.

    Adds each loss of the criterion once more, ``loss_set_distill_cls`` and so
    on. Arguments of :class:`~mmdiffdet.distill.set_distiller.SetDistiller`
    besides ``teacher``.
    """

    distiller = SetDistiller
    same_signal = False  # it samples by itself
