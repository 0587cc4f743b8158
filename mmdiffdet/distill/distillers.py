"""Losses between a student and its teacher."""

from typing import Any, Dict, List

import torch
import torch.nn.functional as F
from torch import Tensor

from ..device import on_device
from ..diffusion.box_codec import image_scale
from ..diffusion.box_schedulers import same_process
from ..diffusion.noise import PerImageNoise, make_generator, side_generator
from ..diffusion.prediction import Prediction
from ..diffusion.sampling import sample
from ..diffusion.timesteps import check_timesteps
from ..models.detector import DiffusionDet
from ..models.structures import HeadOutput, TrainingStep
from .teacher import Teacher


class Distiller:
    """Box L1 and class MSE between two predictions of the same proposals.

    Args:
        teacher (Teacher): Whom to learn from.
        box_weight (float): Of the mean L1 distance of xyxy in units of the
            image. Defaults to 1.
        cls_weight (float): Of the mean squared distance of
            sigmoid(logits / temperature). Defaults to 0.
        temperature (float): Defaults to 1.
        topk (int): Only the proposals with the teacher's best class scores
            count; 0 for all.

    Raises:
        ValueError: If a number is out of its range.
    """

    name = ''

    def __init__(
        self,
        teacher: Teacher,
        box_weight: float = 1.0,
        cls_weight: float = 0.0,
        temperature: float = 1.0,
        topk: int = 0,
    ) -> None:
        if min(box_weight, cls_weight, topk) < 0 or temperature <= 0:
            raise ValueError(
                f'{type(self).__name__}: box_weight, cls_weight and topk must '
                f'be >= 0, temperature positive; got {box_weight}, '
                f'{cls_weight}, {topk}, {temperature}'
            )
        self.teacher = teacher
        self.box_weight = box_weight
        self.cls_weight = cls_weight
        self.temperature = temperature
        self.topk = topk
        self.checked = False  # that timesteps mean the same noise to both

    def __call__(self, student: DiffusionDet, step: TrainingStep) -> Dict[str, Tensor]:
        """Losses by name.

        Args:
            student (DiffusionDet): In training mode.
            step (TrainingStep): Of this iteration.
        """
        raise NotImplementedError

    def losses(
        self, student: Prediction, teacher: Prediction, image_sizes: Tensor
    ) -> Dict[str, Tensor]:
        """Compare the last stage's boxes and logits.

        Args:
            student (Prediction): With gradients.
            teacher (Prediction): Of the same proposals in the same order.
            image_sizes (Tensor): (B, 2).
        """
        # tensors of inference mode cannot be part of a graph; copies can
        teacher_boxes = teacher.boxes.clone().float()
        teacher_logits = teacher.logits.clone().float()
        student_boxes, student_logits = student.boxes.float(), student.logits.float()
        if self.topk and self.topk < teacher_boxes.size(1):
            best = teacher_logits.sigmoid().amax(-1).topk(self.topk, dim=1)[1]
            teacher_boxes, student_boxes, teacher_logits, student_logits = (
                x.gather(1, best[..., None].expand(-1, -1, x.size(-1)))
                for x in (teacher_boxes, student_boxes, teacher_logits, student_logits)
            )
        losses = {}
        if self.box_weight > 0:
            scale = image_scale(image_sizes)
            losses[f'loss_{self.name}_box'] = self.box_weight * F.l1_loss(
                student_boxes / scale, teacher_boxes / scale
            )
        if self.cls_weight > 0:
            losses[f'loss_{self.name}_cls'] = self.cls_weight * F.mse_loss(
                (student_logits / self.temperature).sigmoid(),
                (teacher_logits / self.temperature).sigmoid(),
            )
        return losses


class SamplerDistiller(Distiller):
    """The student's few steps end where the teacher's many do.

    Both start from the same noise. Neither renews boxes, merges steps or is
    guided, so that proposal i stays proposal i.

    Args:
        teacher (Teacher): Whom to learn from.
        teacher_steps (int): Defaults to 20.
        eta (float): Of DDIM, for both. Defaults to 0.
        student_steps (int): Its own sampler runs with gradients. Stages
            detach their boxes, so what flows from a step to the one before
            goes through the label state alone. Defaults to 1.
        topk (int): See :class:`Distiller`. Defaults to 100.
        kwargs: See :class:`Distiller`.
    """

    name = 'sampler_distill'

    def __init__(
        self,
        teacher: Teacher,
        teacher_steps: int = 20,
        eta: float = 0.0,
        student_steps: int = 1,
        topk: int = 100,
        **kwargs: float,
    ) -> None:
        super().__init__(teacher, topk=topk, **kwargs)
        total = teacher.model.sampler.scheduler.config.num_train_timesteps
        check_timesteps(teacher_steps, total)
        check_timesteps(student_steps, total)
        if eta < 0:
            raise ValueError(f'SamplerDistiller: eta must be >= 0, got {eta}')
        self.teacher_steps = teacher_steps
        self.student_steps = student_steps
        self.eta = eta

    def __call__(self, student: DiffusionDet, step: TrainingStep) -> Dict[str, Tensor]:
        """See :class:`Distiller`."""
        generator = side_generator(self.name)
        batch, num = step.noisy.boxes.shape[:2]
        x = on_device(torch.randn(batch, num, 4, generator=generator), step.noisy.boxes.device)
        seeds = torch.randint(2**62, (batch,), generator=generator).tolist()
        taught = self.teacher(
            step.batch_inputs,
            step.maps,
            lambda model, table: self._run(
                model, table, x, seeds, self.teacher_steps, step.image_sizes
            ),
        )
        learnt = self._run(student, step.table, x, seeds, self.student_steps, step.image_sizes)
        return self.losses(learnt, taught, step.image_sizes)

    def _run(
        self,
        model: DiffusionDet,
        table: Any,
        x: Tensor,
        seeds: List[int],
        steps: int,
        image_sizes: Tensor,
    ) -> Prediction:
        scheduler = model.sampler.scheduler
        scheduler.set_timesteps(steps)
        noise = PerImageNoise([make_generator(self.name, s) for s in seeds], x.device)
        return sample(
            model.denoiser(table),
            scheduler,
            x,
            noise,
            model.box_codec,
            image_sizes,
            eta=self.eta,
            label_scheduler=model.label_scheduler,
            sample_labels=model.training,
        )


class ConsistencyDistiller(Distiller):
    """The student says what the teacher says of the same noisy boxes."""

    name = 'consistency'

    def __call__(self, student: DiffusionDet, step: TrainingStep) -> Dict[str, Tensor]:
        """See :class:`Distiller`; ValueError if it knows other noisy boxes."""
        noisy = step.noisy
        if not self.checked:
            check_process(student, self.teacher)
            self.checked = True
        if self.teacher.model.label_scheduler and noisy.label_state is None:
            raise ValueError(
                'ConsistencyDistiller: the teacher reads a label '
                'state, the student has no label_scheduler'
            )
        taught = self.teacher(
            step.batch_inputs,
            step.maps,
            lambda model, table: last_stage(
                model.bbox_head(
                    table,
                    noisy.boxes,
                    noisy.t,
                    noisy.label_state if model.label_scheduler else None,
                    all_stages=False,
                )
            ),
        )
        return self.losses(last_stage(step.output), taught, step.image_sizes)


def check_process(student: DiffusionDet, teacher: Teacher) -> None:
    """Raise ValueError if a timestep means another noise to the teacher."""
    mine, other = student.sampler.scheduler, teacher.model.sampler.scheduler
    if not same_process(mine, other):
        raise ValueError(
            f'the teacher was trained with {type(other).__name__}, the student is with '
            f'{type(mine).__name__} or another schedule: at one timestep their boxes are '
            'noisy in different ways, and the teacher cannot be asked about those of the student'
        )


def last_stage(output: HeadOutput) -> Prediction:
    """Boxes (B, N, 4) and logits (B, N, K) of a head's last stage."""
    return Prediction(output.boxes[-1], output.logits[-1])
