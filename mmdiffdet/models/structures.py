"""What passes between the head and its stages."""

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Tuple

import torch
from mmdet.structures import SampleList
from mmengine.structures import InstanceData
from torch import Tensor

from ..device import on_device
from ..diffusion.corruption import NoisyProposals


@dataclass
class StageContext:
    """What a part of a stage may look at.

    Args:
        features (Tensor): (B, N, d), proposal features; a feature part sees
            them with the terms of the parts before it.
        boxes (Tensor): (B, N, 4), the stage's input boxes, xyxy in pixels,
            detached.
        t (Tensor): (B,) long timesteps.
        label_state (Tensor, optional): (B, N) long ids or (B, N, K + 1)
            distribution.
    """

    features: Tensor
    boxes: Tensor
    t: Tensor
    label_state: Optional[Tensor] = None


@dataclass
class StageOutput:
    """Output of one stage.

    Args:
        boxes (Tensor): (B, N, 4), xyxy in pixels.
        features (Tensor): (B, N, d), for the next stage.
        logits (Tensor, optional): (B, N, K); None if not asked for.
        modulated (Tensor, optional): (B, N, d), time-modulated features.
        attention (Tensor, optional): (B, N, N), averaged over heads.
        extras (dict[str, Tensor]): Outputs of the output parts, by name.
    """

    boxes: Tensor
    features: Tensor
    logits: Optional[Tensor] = None
    modulated: Optional[Tensor] = None
    attention: Optional[Tensor] = None
    extras: Dict[str, Tensor] = field(default_factory=dict)


@dataclass
class HeadOutput:
    """Outputs of the stages, stacked; S is 1 where only the last is asked for.

    Args:
        logits (Tensor): (S, B, N, K).
        boxes (Tensor): (S, B, N, 4), xyxy in pixels.
        extras (dict[str, Tensor]): (S, B, N, ...) by name.
        modulated (Tensor): (B, N, d), time-modulated features of the last
            stage.
        attention (Tensor, optional): (B, N, N), of the last stage.
    """

    logits: Tensor
    boxes: Tensor
    extras: Dict[str, Tensor]
    modulated: Tensor
    attention: Optional[Tensor] = None


@dataclass
class TrainingStep:
    """What a detector knows when it has computed its own losses.

    Args:
        batch_inputs (Tensor): (B, 3, H, W), normalised and padded.
        maps (tuple[Tensor]): Of the backbone.
        table (Any): Features that the head reads.
        noisy (NoisyProposals): What the head was trained on.
        output (HeadOutput): What it said.
        image_sizes (Tensor): (B, 2), height and width without padding.
        img_metas (list[dict]): Of the images, on the host.
    """

    batch_inputs: Tensor
    maps: Tuple[Tensor, ...]
    table: Any
    noisy: NoisyProposals
    output: HeadOutput
    image_sizes: Tensor
    img_metas: List[dict]


def known_objects(
    samples: SampleList, device: torch.device
) -> Tuple[List[InstanceData], Dict[str, Tensor]]:
    """The objects of a batch, of which some images may have none that are known.

    Args:
        samples (list[DetDataSample]): With ``gt_instances``, which are not read
            where ``labelled`` of an image's metainfo is False.
        device (torch.device): Where a mask is put.

    Returns:
        tuple: The objects of each image, none where it is unlabelled, and keyword
        arguments of the criterion: ``labelled``, (B,) bool, if an image is unlabelled,
        else nothing.
    """
    labelled = [s.metainfo.get('labelled', True) for s in samples]
    objects = [s.gt_instances if k else s.gt_instances[:0] for s, k in zip(samples, labelled)]
    if all(labelled):
        return objects, {}
    return objects, dict(labelled=on_device(labelled, device, torch.bool))
