"""The forward process in training: objects to noisy proposals."""

from dataclasses import dataclass
from typing import Dict, List, Optional

import diffusers
import torch
from mmengine.structures import InstanceData
from torch import Tensor

from ..device import on_device
from .box_codec import BoxCodec
from .flow import pair_noise
from .label_scheduler import D3PMScheduler
from .noise import side_generator


@dataclass
class NoisyProposals:
    """What the head is trained on.

    Args:
        boxes (Tensor): (B, N, 4), xyxy in pixels.
        t (Tensor): (B,) long, one timestep an image.
        label_state (Tensor, optional): (B, N) long, ids in 0..K.
        clean_labels (Tensor, optional): (B, N) long, the state before noise.
        signal (Tensor, optional): (B, N, 4), the boxes' signal before noise.
        noise (Tensor, optional): (B, N, 4), what was added to it.
    """

    boxes: Tensor
    t: Tensor
    label_state: Optional[Tensor] = None
    clean_labels: Optional[Tensor] = None
    signal: Optional[Tensor] = None
    noise: Optional[Tensor] = None


def corrupt(
    gt_instances: List[InstanceData],
    image_sizes: Tensor,
    num_proposals: int,
    codec: BoxCodec,
    scheduler: diffusers.SchedulerMixin,
    t: Tensor,
    label_scheduler: Optional[D3PMScheduler] = None,
    noise_pairing: str = 'random',
) -> NoisyProposals:
    """Pad the objects of each image to N proposals and add noise.

    Places that objects leave are filled with boxes whose normalised cxcywh are
    normal with mean 0.5 and deviation 1/6; of more than N objects a random N are
    used; an image without
    objects gets one box of its own size (DiffusionDet, arXiv 2211.09788,
    sec. 3.3 and alg. 1).

    Args:
        gt_instances (list[InstanceData]): ``bboxes`` (G, 4) xyxy in pixels
            and ``labels`` (G,) of each image.
        image_sizes (Tensor): (B, 2), height and width without padding.
        num_proposals (int): N.
        codec (BoxCodec): Boxes to signal and back.
        scheduler (SchedulerMixin): Its ``add_noise`` is the forward process.
        t (Tensor): (B,) long, the timestep of each image.
        label_scheduler (D3PMScheduler, optional): For the label state, which
            is sampled. Its draws leave the global generator as it was.
        noise_pairing (str): ``random``, or ``optimal_transport``: see
            :func:`~mmdiffdet.diffusion.flow.pair_noise`.
    """
    device = image_sizes.device
    unknown = -1 if label_scheduler is None else label_scheduler.config.num_classes
    clean, labels = [], []
    for gt, size in zip(gt_instances, image_sizes):
        boxes = codec.normalize(gt.bboxes[None], size[None])[0]
        if len(boxes) == 0:
            boxes = on_device([[0.5, 0.5, 1.0, 1.0]], device, boxes.dtype)
            label = torch.full((1,), unknown, device=device)
        else:
            label = gt.labels
        if len(boxes) > num_proposals:
            chosen = torch.randperm(len(boxes), device=device)[:num_proposals]
            boxes, label = boxes[chosen], label[chosen]
        free = num_proposals - len(boxes)
        filler = torch.randn(free, 4, device=device) / 6 + 0.5
        filler[:, 2:].clamp_(min=1e-4)
        clean.append(torch.cat([boxes, filler]))
        labels.append(torch.cat([label, label.new_full((free,), unknown)]))
    signal = codec.to_signal(torch.stack(clean))
    noise = torch.randn_like(signal)
    if noise_pairing == 'optimal_transport':
        noise = pair_noise(signal, noise)
    boxes = codec.decode(scheduler.add_noise(signal, noise, t), image_sizes)
    if label_scheduler is None:
        return NoisyProposals(boxes, t, signal=signal, noise=noise)
    clean_labels = torch.stack(labels)
    uniform = torch.rand(clean_labels.shape, generator=side_generator('label_state'))
    state = label_scheduler.sample_ids(
        label_scheduler.add_noise(clean_labels, t), on_device(uniform, device)
    )
    return NoisyProposals(boxes, t, state, clean_labels, signal, noise)


def label_statistics(noisy: NoisyProposals, scheduler: D3PMScheduler) -> Dict[str, Tensor]:
    """What became of the labels, to log.

    Args:
        noisy (NoisyProposals): With a label state.
        scheduler (D3PMScheduler): That made it.

    Returns:
        dict[str, Tensor]: ``label_keep_prob``, the mean of keep(t), and
        ``label_non_unk_ratio``, the share of objects whose label is known.
    """
    unknown = scheduler.config.num_classes
    objects = noisy.clean_labels != unknown
    known = objects & (noisy.label_state != unknown)
    return dict(
        label_keep_prob=scheduler.keep_prob(noisy.t).mean(),
        label_non_unk_ratio=known.sum() / objects.sum().clamp(min=1),
    )
