"""The cascade of stages."""

from typing import List, Optional, Sequence, Union

import torch
from diffusers.models.embeddings import Timesteps
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..diffusion.noise import stable_seed
from ..registry import MODELS
from .roi_gather import FeatureTable
from .structures import HeadOutput


def reset_by_name(module: nn.Module, seed: int) -> None:
    """Initialise every layer from a generator seeded with its own name.

    A layer's initial value then depends on the seed and its name only, not on
    which other layers there are. Matrices are Xavier uniform; the rest is
    torch's default.
    """
    layers = reversed(list(module.named_modules()))
    with torch.random.fork_rng(devices=[]):
        for name, layer in layers:
            # the CPU's alone; torch.manual_seed would reset GPUs too
            torch.default_generator.manual_seed(stable_seed(seed, name))
            if isinstance(layer, nn.MultiheadAttention):
                layer._reset_parameters()
            elif hasattr(layer, 'reset_parameters'):
                layer.reset_parameters()
            for parameter in layer.parameters(recurse=False):
                if parameter.dim() > 1:
                    nn.init.xavier_uniform_(parameter)


def _output_size(roi_extractor: nn.Module) -> int:
    """Bins along a side of a RoI, of our extractor or one of MMDetection."""
    if hasattr(roi_extractor, 'output_size'):
        return roi_extractor.output_size
    return roi_extractor.roi_layers[0].output_size[0]


@MODELS.register_module()
class DiffusionDetHead(BaseModule):
    """Stages that refine noisy boxes, each with its own weights.

    Building it draws nothing from the global random generator.

    Args:
        num_classes (int): K.
        feat_channels (int): d, also the channels of the feature maps.
        num_stages (int): Stages of the cascade.
        stage (dict): Config of a stage, e.g. ``DiffusionDetStage``; its
            ``roi_size`` is the extractor's unless it is given.
        roi_extractor (dict): ``GatherRoIExtractor`` or an extractor of
            MMDetection.

    Raises:
        ValueError: If ``stage.roi_size`` is not the extractor's.
    """

    def __init__(
        self,
        num_classes: int,
        feat_channels: int = 256,
        num_stages: int = 6,
        stage: dict = dict(type='DiffusionDetStage'),
        roi_extractor: dict = dict(
            type='GatherRoIExtractor', out_channels=256, featmap_strides=[4, 8, 16, 32]
        ),
    ) -> None:
        super().__init__()
        d = feat_channels
        self.num_classes = num_classes
        with torch.random.fork_rng(devices=[]):
            self.roi_extractor = MODELS.build(roi_extractor)
            stage = dict(stage)
            size = _output_size(self.roi_extractor)
            if stage.setdefault('roi_size', size) != size:
                raise ValueError(
                    f'model.bbox_head.stage.roi_size is {stage["roi_size"]}, roi_extractor gives '
                    f'{size} bins a side (output_size); leave roi_size out'
                )
            self.time_mlp = nn.Sequential(
                Timesteps(d, flip_sin_to_cos=False, downscale_freq_shift=1),
                nn.Linear(d, 4 * d),
                nn.GELU(),
                nn.Linear(4 * d, 4 * d),
            )
            self.head_series = nn.ModuleList(
                MODELS.build(dict(stage, num_classes=num_classes, feat_channels=d))
                for _ in range(num_stages)
            )
        reset_by_name(self, torch.initial_seed())
        self.init_weights()

    def init_weights(self) -> None:
        """Set what does not start from random matrices; no random draw."""
        for stage in self.head_series:
            stage.init_weights()

    def tabulate(self, feats: Sequence[Tensor]) -> Union[FeatureTable, Sequence[Tensor]]:
        """Prepare (B, d, H, W) maps once for many calls of :meth:`forward`."""
        tabulate = getattr(self.roi_extractor, 'tabulate', None)
        if tabulate is None:  # MMCV's RoIAlign misreads other layouts, and bfloat16
            return [(f.float() if f.dtype is torch.bfloat16 else f).contiguous() for f in feats]
        return tabulate(feats)

    def output_part(self, name: str, num_stages: Optional[int] = None) -> Optional[nn.Module]:
        """The output part of that name of the last of ``num_stages``."""
        parts = self.head_series[:num_stages][-1].output_parts
        return parts[name] if name in parts else None

    def forward(
        self,
        table: Union[FeatureTable, Sequence[Tensor]],
        boxes: Tensor,
        t: Tensor,
        label_state: Optional[Tensor] = None,
        all_stages: bool = True,
        need_attention: bool = False,
        num_stages: Optional[int] = None,
        repeated_stages: int = 0,
    ) -> HeadOutput:
        """Refine noisy boxes.

        Args:
            table (FeatureTable | Sequence[Tensor]): From :meth:`tabulate`.
            boxes (Tensor): (B, N, 4), xyxy in pixels.
            t (Tensor): (B,) long timesteps.
            label_state (Tensor, optional): (B, N) ids or (B, N, K + 1).
            all_stages (bool): Whether every stage's outputs are computed or
                the last one's only.
            need_attention (bool): Whether the last stage's attention weights
                are returned.
            num_stages (int, optional): The cascade ends after so many; by
                default after all.
            repeated_stages (int): So many of its last stages run once more.

        Raises:
            ValueError: If ``need_attention`` and the stages do not interact,
                or there are no ``num_stages`` or ``repeated_stages``.
        """
        stages = self.head_series[:num_stages]
        if num_stages is not None and not 1 <= num_stages <= len(self.head_series):
            raise ValueError(
                f'{num_stages} stages were asked for (model.sampler.'
                f'stages_per_step), the head has {len(self.head_series)}; '
                'choose from 1 to that'
            )
        if not 0 <= repeated_stages <= len(stages):
            raise ValueError(
                f'model.sampler.repeated_stages is {repeated_stages}, of a cascade of '
                f'{len(stages)} stages; choose from 0 to that'
            )
        stages = [*stages, *stages[len(stages) - repeated_stages :]]
        image_index = None
        if not isinstance(table, FeatureTable):  # an extractor of MMDetection
            image_index = torch.arange(len(boxes), device=boxes.device)
        time_embedding = self.time_mlp(t)
        features = None
        outputs = []
        for i, stage in enumerate(stages):
            is_last = i == len(stages) - 1
            output = stage(
                table,
                self.roi_extractor,
                boxes,
                features,
                time_embedding,
                t,
                image_index,
                label_state,
                need_outputs=all_stages or is_last,
                need_attention=need_attention and is_last,
            )
            boxes, features = output.boxes, output.features
            if all_stages or is_last:
                outputs.append(output)
        if need_attention and output.attention is None:
            raise ValueError(
                'attention weights were asked for (topology '
                "loss), but the stage's interaction has none: "
                "use interaction=dict(type='SelfAttention')"
            )
        return HeadOutput(
            logits=_stack([o.logits for o in outputs]),
            boxes=_stack([o.boxes for o in outputs]),
            extras={name: _stack([o.extras[name] for o in outputs]) for name in output.extras},
            modulated=output.modulated,
            attention=output.attention,
        )


def _stack(tensors: List[Tensor]) -> Tensor:
    """One is not copied."""
    return torch.stack(tensors) if len(tensors) > 1 else tensors[0][None]
