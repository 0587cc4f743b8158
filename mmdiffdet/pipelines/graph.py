"""Detecting, from image to detections, as one function of tensors, for export."""

import copy
from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..diffusion.noise import PerImageNoise
from ..diffusion.sampling import DiffusionSampler
from ..models.data_preprocessor import DetDataPreprocessor
from ..models.detector import DiffusionDet
from ..models.postprocess import candidates
from .graph_parts import GivenNoise, SymbolicRoIExtractor, TimeTable
from .linear_steps import LinearSteps


class DetectionGraph(nn.Module):
    """Image and noise to detections, with a fixed number of steps.

    The reverse process is the one of testing; only what a graph cannot hold
    is replaced: the scheduler by the numbers of its steps, generators by the
    noise that is handed in, the time embedding by its values, and the RoI
    gather by one of symbolic sizes.

    Args:
        detector (DiffusionDet): The detector, which is copied.
        sampler (DiffusionSampler): Has the scheduler, steps and eta.
        num_proposals (int): N, the number of boxes.
        score_thr (float): Only scores above it stay.
    """

    def __init__(
        self,
        detector: DiffusionDet,
        sampler: DiffusionSampler,
        num_proposals: int,
        score_thr: Optional[float] = None,
    ) -> None:
        super().__init__()
        check_exportable(detector, sampler)
        self.detector = copy.deepcopy(detector).eval().requires_grad_(False)
        head = self.detector.bbox_head
        head.roi_extractor.__class__ = SymbolicRoIExtractor
        self.sampler = copy.copy(sampler)
        steps = sampler.sampling_timesteps
        self.sampler.scheduler = LinearSteps(sampler.scheduler, steps, sampler.eta)
        head.time_mlp = TimeTable(head.time_mlp, self.sampler.scheduler.timesteps)
        self.num_proposals = num_proposals
        self.score_thr = detector.test_cfg['score_thr'] if score_thr is None else score_thr
        self.step_draws = (steps - 1) * self.sampler.scheduler.is_noisy
        self.renewal_draws = (steps - 1) * (sampler.renewal is not None)

    @property
    def noise_shape(self) -> Tuple[int, int, int]:
        """Shape of the noise that :meth:`forward` takes: (draws, N, 4)."""
        return 1 + self.step_draws + self.renewal_draws, self.num_proposals, 4

    def forward(self, image: Tensor, noise: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        """Detect.

        Args:
            image (Tensor): (1, 3, H, W) float32, BGR from 0 to 255, resized as
                the test pipeline does, neither normalised nor padded.
            noise (Tensor): ``noise_shape``, standard normal; see
                :func:`draw_noise`.

        Returns:
            tuple: (K, 4) boxes, xyxy in pixels of ``image``, (K,) labels and
            (K,) scores, best score first.
        """
        detector = self.detector
        height, width = image.shape[-2:]
        size = torch.cat([image.new_full((1,), height), image.new_full((1,), width)])
        table = detector.bbox_head.tabulate(detector.extract_feat(self._normalized(image)))
        steps = self.sampler(
            detector.denoiser(table),
            detector.box_codec,
            size[None],
            self.num_proposals,
            GivenNoise(noise, 1 + self.step_draws),
            label_scheduler=detector.label_scheduler,
        )
        power = detector.test_cfg['quality_power']
        boxes, scores, labels = (
            torch.cat([part[0] for part in parts])
            for parts in zip(*(candidates(step, power) for step in steps))
        )
        return self._merged(boxes, scores, labels, size)

    def _normalized(self, image: Tensor) -> Tensor:
        """Normalise and pad as MMDetection's DetDataPreprocessor does."""
        preprocessor = self.detector.data_preprocessor
        if preprocessor._channel_conversion:
            image = image.flip(1)
        if preprocessor._enable_normalize:
            image = (image - preprocessor.mean) / preprocessor.std
        divisor = preprocessor.pad_size_divisor
        height, width = image.shape[-2:]
        return F.pad(
            image, (0, -width % divisor, 0, -height % divisor), value=preprocessor.pad_value
        )

    def _merged(
        self, boxes: Tensor, scores: Tensor, labels: Tensor, size: Tensor
    ) -> Tuple[Tensor, Tensor, Tensor]:
        """Merge as :func:`~mmdiffdet.models.postprocess.merge`, without a loop over classes."""
        scores, order = scores.topk(len(scores))
        boxes, labels = boxes[order], labels[order]
        keep = scores > self.score_thr if self.score_thr > 0 else torch.ones_like(scores).bool()
        nms = self.detector.test_cfg['nms']
        if nms is not None:
            keep = _greedy(boxes, labels, keep, nms.get('iou_threshold', nms.get('iou_thr', 0.5)))
        limit = size.flip(0).repeat(2)
        boxes = torch.minimum(boxes.clamp(min=0), limit)
        keep = keep & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        most = self.detector.test_cfg['max_per_img']
        if most > 0:
            keep = keep & (keep.long().cumsum(0) <= most)
        index = keep.nonzero().squeeze(1)
        return boxes[index], labels[index], scores[index]


def draw_noise(
    noise_shape: Tuple[int, int, int],
    step_draws: int,
    eval_seed: int,
    image_id: object = 0,
    device: torch.device | str = 'cpu',
) -> Tensor:
    """The noise that testing would draw for an image: float32 of the graph's ``noise_shape``.

    ``eval_seed`` and ``image_id`` seed it; the scheduler's steps take ``step_draws``.
    """
    draws, *shape = noise_shape
    source = PerImageNoise.from_seed(eval_seed, [image_id], device)
    renewal = source.spawn('renewal')
    rows = [source(*shape) for _ in range(1 + step_draws)]
    rows += [renewal(*shape) for _ in range(draws - len(rows))]
    return torch.cat(rows)


def check_exportable(detector: DiffusionDet, sampler: DiffusionSampler) -> None:
    """Raise ValueError if something cannot be exported, with what can."""
    extractor = type(detector.bbox_head.roi_extractor).__name__
    labels = detector.label_scheduler
    nms = detector.test_cfg['nms'] or {}
    preprocessor = type(detector.data_preprocessor)
    reasons = [
        (
            extractor != 'GatherRoIExtractor',
            f'roi_extractor {extractor}: use GatherRoIExtractor, which has the same values',
        ),
        (
            sampler.guidance is not None,
            'guidance, as it differentiates the network: set model.sampler.guidance=None',
        ),
        (
            labels is not None and not labels.config.use_distribution,
            'labels that are drawn: set model.label_scheduler.use_distribution=True',
        ),
        (
            nms.get('type', 'nms') != 'nms' or set(nms) - {'type', 'iou_threshold', 'iou_thr'},
            f'nms {dict(nms)}: use dict(type="nms", iou_threshold=0.5)',
        ),
        (
            preprocessor not in DetDataPreprocessor.__mro__[:2],  # MMDetection's, too
            f'data_preprocessor {preprocessor.__name__}: use DetDataPreprocessor',
        ),
    ]
    for cannot, reason in reasons:
        if cannot:
            raise ValueError(f'cannot export {reason}')


def _greedy(boxes: Tensor, labels: Tensor, alive: Tensor, threshold: float) -> Tensor:
    """Which boxes stay of (M, 4), sorted by score; NMS within a class.

    Box j goes if a better one of its class that stays overlaps it. Rounds of
    this rule decide the first box, then the second at the latest, ...: the
    loop ends when nothing changes, with what going box by box gives.
    """
    low = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    inter = (high - low).clamp(min=0).prod(-1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    iou = inter / (area[:, None] + area[None] - inter)
    order = torch.arange(len(boxes), device=boxes.device)
    suppresses = (
        (iou > threshold) & (labels[:, None] == labels[None]) & (order[:, None] < order[None])
    ).float()

    def changed(before: Tensor, stay: Tensor) -> Tensor:
        return (before != stay).any()

    def again(before: Tensor, stay: Tensor) -> Tuple[Tensor, Tensor]:
        # the product makes a copy, which a loop's outputs must be
        return stay * 1.0, alive.float() * ((stay[None] @ suppresses)[0] < 0.5).float()

    nothing = torch.zeros_like(alive, dtype=torch.float32)
    _, stay = torch._higher_order_ops.while_loop(changed, again, (nothing, alive.float()))
    return stay > 0.5
