"""A teacher's detections as objects to learn from."""

import copy
from typing import Dict

import torch
from mmengine.dist import get_rank
from mmengine.structures import InstanceData
from torch import Tensor

from ..device import on_device
from ..diffusion.noise import side_generator
from ..diffusion.sampling import SamplingVariant
from ..diffusion.timesteps import check_timesteps
from ..models.detector import DiffusionDet
from ..models.structures import TrainingStep
from .teacher import Teacher


class SetDistiller:
    """The student finds what the teacher's many steps, merged, have found.

    A loss between proposal i of both cannot pass on what renewal and the
    ensemble of steps win, as they win it by having more boxes to choose from.
    Here the teacher samples as in a test, and its detections are objects of
    the student's criterion beside the true ones: the assigner pairs them with
    proposals, the class target is the detection's score, and the losses of
    boxes are weighted with it. An image without labels has these losses alone.

    Args:
        teacher (Teacher): Whom to learn from.
        teacher_steps (int): Its sampling steps. Defaults to 20.
        score_thr (float): Detections below are left out. Defaults to 0.3.
        loss_weight (float): Of all these losses. Defaults to 1.

    Raises:
        ValueError: If a number is out of its range.
    """

    name = 'set_distill'

    def __init__(
        self,
        teacher: Teacher,
        teacher_steps: int = 20,
        score_thr: float = 0.3,
        loss_weight: float = 1.0,
    ) -> None:
        check_timesteps(teacher_steps, teacher.model.sampler.scheduler.config.num_train_timesteps)
        if not 0 <= score_thr < 1:
            raise ValueError(f'SetDistiller: score_thr must be in [0, 1), got {score_thr}')
        if not loss_weight >= 0:
            raise ValueError(f'SetDistiller: loss_weight must be >= 0, got {loss_weight}')
        self.teacher = teacher
        self.sampler = copy.copy(teacher.model.sampler)
        self.sampler.sampling_timesteps = teacher_steps
        self.score_thr = score_thr
        self.loss_weight = loss_weight

    def __call__(self, student: DiffusionDet, step: TrainingStep) -> Dict[str, Tensor]:
        """Losses by name, and the teacher's detections an image.

        Args:
            student (DiffusionDet): In training mode.
            step (TrainingStep): Of this iteration.
        """
        objects = self._objects(step)
        losses = student.criterion(step.output, objects, step.image_sizes)
        found = {
            name.replace('loss_', f'loss_{self.name}_'): self.loss_weight * loss
            for name, loss in losses.items()
        }
        count = sum(map(len, objects)) / len(objects)
        return dict(
            found,
            teacher_detections=on_device(count, step.image_sizes.device),
        )

    def _objects(self, step: TrainingStep) -> list:
        """Soft objects of each image, boxes in the pixels of the batch.

        The host waits once for their numbers, beside what the teacher's NMS asks
        of it.
        """
        # another noise in each iteration, and the global generators untouched
        seed = torch.randint(2**31, (), generator=side_generator(self.name)).item()
        # and in each process, also where all are seeded alike
        first = get_rank() * len(step.img_metas)
        metas = [dict(meta, img_id=first + i) for i, meta in enumerate(step.img_metas)]
        found = self.teacher(
            step.batch_inputs,
            step.maps,
            lambda model, table: model.detect(
                table, metas, SamplingVariant(self.sampler, seed), rescale=False
            ),
        )
        # the best come first
        good = torch.stack([(one.scores >= self.score_thr).sum() for one in found]).tolist()
        # tensors of inference mode cannot be part of a graph; copies can
        return [
            InstanceData(
                bboxes=one.bboxes[:n].clone().float(),
                labels=one.labels[:n].clone(),
                scores=one.scores[:n].clone().float(),
            )
            for one, n in zip(found, good)
        ]
