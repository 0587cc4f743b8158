"""Guidance of boxes by the predicted quality."""

from typing import Optional

import torch
from torch import Tensor

from ..registry import TASK_UTILS
from .noise import PerImageNoise
from .prediction import Prediction
from .time_schedule import TimeSchedule

MODES = ('final', 'all', 'threshold')
GRAD_NORMS = ('proposal', 'global')


@TASK_UTILS.register_module()
class QualityGuidance:
    """Move boxes up the gradient of the quality head's output.

    The objective is the mean over the ``topk`` proposals with the best class
    score of sigmoid(quality), times the score if ``score_weight``. Its
    gradient, normalised, is a direction in box space.

    Args:
        scale (float): Step length in pixels.
        topk (int): Number of proposals in the objective.
        score_weight (bool): Whether the class score weighs a proposal.
        grad_norm (str): ``proposal`` normalises each proposal's gradient,
            ``global`` that of all of an image's proposals together.
        mode (str): At the ``final`` step, at ``all`` steps, or where
            t <= ``t_threshold`` (``threshold``).
        t_threshold (int): For mode ``threshold``.
        langevin_steps (int): Rounds.
        noise_scale (float): Standard deviation, in pixels, of the noise that
            each round adds.
        schedule (dict, optional): Arguments of :class:`TimeSchedule` for the
            step length.
        batch_mean (bool): Divide by the batch size too, as the Detectron2 system
            does; a result then depends on the batch through the constant that
            protects the norm. For parity only.

    Raises:
        ValueError: If a name is unknown or a number out of its range.
    """

    def __init__(
        self,
        scale: float,
        topk: int = 50,
        score_weight: bool = True,
        grad_norm: str = 'proposal',
        mode: str = 'final',
        t_threshold: int = 0,
        langevin_steps: int = 1,
        noise_scale: float = 0.0,
        schedule: Optional[dict] = None,
        batch_mean: bool = False,
    ) -> None:
        for name, value, valid in (('mode', mode, MODES), ('grad_norm', grad_norm, GRAD_NORMS)):
            if value not in valid:
                raise ValueError(
                    f'QualityGuidance: unknown {name} {value!r}; choose from {list(valid)}'
                )
        if scale < 0 or noise_scale < 0 or topk < 1 or langevin_steps < 1:
            raise ValueError(
                'QualityGuidance: scale and noise_scale must be >= 0, topk '
                f'and langevin_steps >= 1; got {scale}, {noise_scale}, {topk},'
                f' {langevin_steps}'
            )
        self.scale = scale
        self.topk = topk
        self.score_weight = score_weight
        self.grad_norm = grad_norm
        self.mode = mode
        self.t_threshold = t_threshold
        self.langevin_steps = langevin_steps
        self.noise_scale = noise_scale
        self.schedule = TimeSchedule(**(schedule or {}))
        self.batch_mean = batch_mean

    def __call__(
        self,
        prediction: Prediction,
        t: Tensor,
        is_last: bool,
        image_sizes: Tensor,
        noise: PerImageNoise,
    ) -> Tensor:
        """Guided boxes, (B, N, 4) xyxy in pixels.

        Args:
            prediction (Prediction): With ``quality_of``.
            t (Tensor): The timestep of the step.
            is_last (bool): Whether the step is the last one.
            image_sizes (Tensor): (B, 2), height and width.
            noise (PerImageNoise): For ``noise_scale``.

        Raises:
            ValueError: If the prediction has no quality.
        """
        if prediction.quality_of is None:
            raise ValueError("QualityGuidance needs a QualityHead among the stage's output_parts")
        boxes = prediction.boxes
        active = (
            self.mode == 'all'
            or (self.mode == 'final' and is_last)
            or (self.mode == 'threshold' and int(t) <= self.t_threshold)
        )
        if not active or self.scale == 0:
            return boxes
        step = self.scale * self.schedule(t)  # a number of the host, as t is
        score = prediction.logits.float().sigmoid().amax(-1)
        chosen = score.topk(min(self.topk, score.size(1)), sorted=False)[1]
        weight = torch.zeros_like(score).scatter_(1, chosen, 1.0)
        weight = weight / chosen.size(1)
        if self.score_weight:
            weight = weight * score
        if self.batch_mean:
            weight = weight / len(score)
        boxes = _make_valid(boxes.float(), image_sizes)
        for _ in range(self.langevin_steps):
            direction = self._direction(prediction, boxes, weight)
            boxes = boxes + step * direction
            if self.noise_scale > 0:
                boxes = boxes + self.noise_scale * noise(*boxes.shape[1:])
            boxes = _make_valid(boxes, image_sizes)
        return boxes

    def _direction(self, prediction: Prediction, boxes: Tensor, weight: Tensor) -> Tensor:
        with torch.enable_grad():
            boxes = boxes.detach().requires_grad_()
            objective = (prediction.quality_of(boxes).float().sigmoid() * weight).sum()
            (grad,) = torch.autograd.grad(objective, boxes)
        dims = -1 if self.grad_norm == 'proposal' else (1, 2)
        norm = torch.linalg.vector_norm(grad, dim=dims, keepdim=True)
        return grad / (norm + 1e-6)


def _make_valid(boxes: Tensor, image_sizes: Tensor) -> Tensor:
    """Sort corners, clip to the image, keep at least 1e-6 px (B, N, 4)."""
    height, width = image_sizes[:, None, 0], image_sizes[:, None, 1]
    zero = torch.zeros_like(height)
    x1, y1, x2, y2 = boxes.unbind(-1)
    left = torch.minimum(x1, x2).clamp(zero, width)
    top = torch.minimum(y1, y2).clamp(zero, height)
    right = torch.maximum(x1, x2).clamp(zero, width)
    bottom = torch.maximum(y1, y2).clamp(zero, height)
    return torch.stack(
        [left, top, torch.maximum(right, left + 1e-6), torch.maximum(bottom, top + 1e-6)], -1
    )
