"""Consistency models: neighbours on one path of noise say the same boxes."""

import math
from typing import Any, Dict, Optional

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from ..diffusion.prediction import Prediction
from ..engine.averaged_model import ForeachEMA
from ..engine.precision import autocast_precision
from ..engine.unwrap import unwrap
from ..models.detector import DiffusionDet
from ..models.structures import TrainingStep
from ..registry import HOOKS
from .distillers import Distiller, check_process, last_stage
from .hooks import attach, check_teacher, load_teacher, record_teacher
from .teacher import Teacher


def discretisation(progress: float, first: int, last: int) -> int:
    """N(k), the number of intervals into which the path of noise is divided.

    Grows from ``first`` to ``last`` + 1, so that neighbours come nearer
    (Song et al., Consistency Models, arXiv 2303.01469, appendix C, with
    ``progress`` = k / K, ``first`` = s_0 and ``last`` = s_1).

    Args:
        progress (float): Share of the training that is done, in [0, 1].
        first (int): s_0.
        last (int): s_1.
    """
    squared = progress * ((last + 1) ** 2 - first**2) + first**2
    return math.ceil(math.sqrt(squared) - 1) + 1


class ConsistencyModelDistiller(Distiller):
    """The student at t_{n+1} says what its average says at t_n of one path.

    The student's answer is the training's own, at its timestep t. Its average
    sees the same objects with the same noise one interval earlier, at t - T / N
    (arXiv 2303.01469, eq. 10, consistency training), or what a teacher's
    deterministic step from the student's noisy boxes leads to (eq. 7,
    consistency distillation). Images whose t lies in the first interval, where
    the neighbour would be the objects themselves, have no such loss. The label
    state is that of t for both.

    The average computes in the precision of the student.

    Args:
        average (Teacher): The student's moving average.
        teacher (Teacher, optional): Whose step is followed.
        kwargs: See :class:`Distiller`.
    """

    name = 'consistency_model'

    def __init__(
        self, average: Teacher, teacher: Optional[Teacher] = None, **kwargs: float
    ) -> None:
        super().__init__(average, **kwargs)
        self.path_teacher = teacher  # self.teacher is the average
        self.intervals = 2  # of the path of noise; the hook's

    def __call__(self, student: DiffusionDet, step: TrainingStep) -> Dict[str, Tensor]:
        """See :class:`Distiller`."""
        noisy, sizes = step.noisy, step.image_sizes
        gap = student.sampler.scheduler.config.num_train_timesteps // self.intervals
        earlier = (noisy.t - gap).clamp(min=0)
        self.teacher.precision = autocast_precision(sizes.device.type)
        if self.path_teacher is None:
            signal = student.forward_process.add_noise(noisy.signal, noisy.noise, earlier)
        else:
            signal = self._teachers_step(student, step, earlier)
        boxes = student.box_codec.decode(signal, sizes)
        average = self._ask(self.teacher, step, boxes, earlier)
        own = last_stage(step.output)
        inside = (noisy.t >= gap)[:, None, None]
        target = Prediction(
            torch.where(inside, average.boxes.clone().float(), own.boxes.detach().float()),
            torch.where(inside, average.logits.clone().float(), own.logits.detach().float()),
        )
        return self.losses(own, target, sizes)

    def _teachers_step(self, student: DiffusionDet, step: TrainingStep, earlier: Tensor) -> Tensor:
        """(B, N, 4) signal at ``earlier`` on the teacher's path (DDIM, eta 0)."""
        if not self.checked:
            check_process(student, self.path_teacher)
            self.checked = True
        noisy, forward = step.noisy, student.forward_process
        at_t = forward.add_noise(noisy.signal, noisy.noise, noisy.t)
        found = self._ask(self.path_teacher, step, noisy.boxes, noisy.t).boxes.clone().float()
        data = student.box_codec.encode(found, step.image_sizes)
        # x_t = a x_0 + b e, whatever the process calls a and b
        one, zero = torch.ones_like(at_t), torch.zeros_like(at_t)
        a, b = forward.add_noise(one, zero, noisy.t), forward.add_noise(zero, one, noisy.t)
        return forward.add_noise(data, (at_t - a * data) / b, earlier)

    def _ask(self, who: Teacher, step: TrainingStep, boxes: Tensor, t: Tensor) -> Prediction:
        """What it says of noisy boxes, by its last stage."""
        state = step.noisy.label_state

        def head(model: DiffusionDet, table: Any) -> Prediction:
            label_state = state if model.label_scheduler else None
            return last_stage(model.bbox_head(table, boxes, t, label_state, all_stages=False))

        return who(step.batch_inputs, step.maps, head)


@HOOKS.register_module()
class ConsistencyModelHook(Hook):
    """Train a consistency model, alone or from a teacher.

    Adds ``loss_consistency_model_box`` and ``_cls``. The student's average is
    part of the checkpoints, so that a resumed training goes on with it, and so
    are the teacher's path and hash. A training that only starts from a
    checkpoint (``load_from``) has an average of its own from the beginning.

    Args:
        teacher (dict, optional): As in ``SamplerDistillHook``; None trains
            alone.
        first_intervals (int): s_0. Defaults to 2.
        last_intervals (int): s_1. Defaults to 150.
        momentum (float): 1 - mu_0; the average keeps exp(s_0 ln(mu_0) / N) of
            itself in an iteration (arXiv 2303.01469, appendix C). Defaults to
            0.1.
        kwargs: ``box_weight``, ``cls_weight``, ``temperature`` and ``topk`` of
            :class:`~mmdiffdet.distill.distillers.Distiller`.

    Raises:
        ValueError: If a number is out of its range, or ``teacher`` has an
            unknown key.
        FileNotFoundError: If there is no such checkpoint.
    """

    _KEY = 'consistency_average'

    def __init__(
        self,
        teacher: Optional[Dict[str, Any]] = None,
        first_intervals: int = 2,
        last_intervals: int = 150,
        momentum: float = 0.1,
        **kwargs: Any,
    ) -> None:
        if not 1 <= first_intervals <= last_intervals:
            raise ValueError(
                'ConsistencyModelHook: 1 <= first_intervals <= last_intervals is needed, got '
                f'{first_intervals} and {last_intervals}'
            )
        if not 0 < momentum < 1:
            raise ValueError(f'ConsistencyModelHook: momentum must be in (0, 1), got {momentum}')
        if teacher is not None:
            check_teacher(teacher, type(self).__name__)
        self.teacher_cfg = teacher and dict(teacher)
        self.first, self.last = first_intervals, last_intervals
        self.momentum = momentum
        self.options = kwargs
        self.average: Optional[ForeachEMA] = None
        self.taught_by: Optional[Dict[str, Any]] = None
        self._loaded: Optional[Dict[str, Tensor]] = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: Dict[str, Any]) -> None:
        """Keep the average of a training that goes on."""
        if runner._resume:
            self._loaded = checkpoint.get(self._KEY)
            if self._loaded is None:
                runner.logger.warning(
                    'ConsistencyModelHook: the checkpoint has no average of the student, as it was '
                    'trained without this hook; the average begins with its weights'
                )

    def before_train(self, runner: Runner) -> None:
        """Copy the student, and attach the distiller."""
        student = unwrap(runner.model)
        last = student.sampler.scheduler.config.num_train_timesteps
        if self.last >= last:
            raise ValueError(
                f'ConsistencyModelHook: last_intervals must be below the {last} timesteps of '
                f'model.sampler.scheduler, got {self.last}'
            )
        teacher = None
        if self.teacher_cfg:
            teacher = load_teacher(self.teacher_cfg, student, runner.cfg.model)
            self.taught_by = record_teacher(self.teacher_cfg)
        self.average = ForeachEMA(student, momentum=0.5, update_buffers=True)
        if self._loaded is not None:
            self.average.load_state_dict(self._loaded)
            self._loaded = None
        average = Teacher(self.average.module)
        average.compare(student)  # one pass of a frozen backbone serves both
        attach(student, ConsistencyModelDistiller(average, teacher, **self.options))

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Optional[dict] = None
    ) -> None:
        """Set the number of intervals."""
        intervals = discretisation(runner.iter / runner.max_iters, self.first, self.last)
        unwrap(runner.model).distiller.intervals = intervals
        keep = math.exp(self.first * math.log(1 - self.momentum) / intervals)
        self.average.momentum = 1 - keep

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Optional[dict] = None,
        outputs: Optional[dict] = None,
    ) -> None:
        """Let the average follow the student."""
        self.average.update_parameters(unwrap(runner.model))

    def before_save_checkpoint(self, runner: Runner, checkpoint: Dict[str, Any]) -> None:
        """Save the average with the training."""
        if self.average is not None:
            checkpoint[self._KEY] = self.average.state_dict()
        if self.taught_by is not None:
            checkpoint['meta']['teacher'] = self.taught_by

    def after_train(self, runner: Runner) -> None:
        """Let teacher and average go."""
        unwrap(runner.model).distiller = None
        self.average = None
