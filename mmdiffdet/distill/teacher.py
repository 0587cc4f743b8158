"""A frozen detector to learn from."""

import copy
from typing import Any, Callable, Optional, Sequence, TypeVar

import torch
from mmengine.config import ConfigDict
from torch import Tensor, nn

from ..config.file import read_config
from ..device import channels_last_on_gpu
from ..engine.checkpoint import load_weights
from ..engine.precision import PRECISIONS, check_precision, in_precision
from ..models.detector import DiffusionDet
from ..registry import MODELS

_Result = TypeVar('_Result')


class Teacher:
    """A detector that is no part of the student.

    It is no module, so that attaching it to a model puts it into no
    checkpoint, optimiser, average or bucket of gradients.

    Args:
        model (DiffusionDet): With its weights; it is frozen here.
        precision (str): ``fp32``, ``bf16`` or ``fp16`` (autocast).

    Raises:
        ValueError: If ``precision`` is unknown.
    """

    def __init__(self, model: DiffusionDet, precision: str = 'fp32') -> None:
        check_precision(precision, 'teacher.precision')
        self.model = model.requires_grad_(False).eval()
        self.precision = precision
        self.shares_backbone = False

    @classmethod
    def load(
        cls,
        checkpoint: str,
        student_cfg: ConfigDict,
        config: Optional[str] = None,
        precision: str = 'fp32',
    ) -> 'Teacher':
        """Build and load; no random draw is visible afterwards.

        Args:
            checkpoint (str): ``.pth`` or ``.safetensors``.
            student_cfg (ConfigDict): The student's model, which is the
                teacher's too unless ``config`` names another.
            config (str, optional): Config file of the teacher.
            precision (str): ``fp32``, ``bf16`` or ``fp16``.

        Raises:
            ValueError: If the weights are not those of the model, or it sees
                images prepared in another way than the student.
        """
        cfg = read_config(config).model if config else student_cfg
        cfg = copy.deepcopy(cfg)
        cfg.backbone.init_cfg = None
        for key, value in (student_cfg.get('data_preprocessor') or {}).items():
            if cfg.data_preprocessor.get(key) != value:
                raise ValueError(
                    f'teacher: data_preprocessor.{key} is '
                    f'{cfg.data_preprocessor.get(key)}, the student has '
                    f'{value}; they must see the same images'
                )
        with torch.random.fork_rng(devices=[]):
            model = MODELS.build(cfg)
        load_weights(model, checkpoint, 'name its config in teacher.config')
        return cls(channels_last_on_gpu(model), precision)

    def compare(self, student: DiffusionDet, same_signal: bool = True) -> None:
        """See whether the student's backbone can serve the teacher too.

        It can if it is frozen and all of its weights and statistics are the
        teacher's.

        Args:
            student (DiffusionDet): Who learns.
            same_signal (bool): Whether the two are asked about the same
                proposals, so that their noise has to mean the same boxes.

        Raises:
            ValueError: If the two cannot be compared.
        """
        for name, teachers, students in (
            ('num_classes', self.model.bbox_head.num_classes, student.bbox_head.num_classes),
            *(
                (
                    f'box_codec.{key}',
                    getattr(self.model.box_codec, key),
                    getattr(student.box_codec, key),
                )
                for key in (('scale', 'noise_sigma', 'noise_mean') if same_signal else ())
            ),
        ):
            if teachers != students:
                raise ValueError(
                    f'teacher: {name} is {teachers}, the student has {students}; they must be '
                    'the same'
                )
        frozen = not student.backbone.training and not any(
            p.requires_grad for p in student.backbone.parameters()
        )
        self.shares_backbone = frozen and _equal(student.backbone, self.model.backbone)

    def hold_weights(self) -> None:
        """Keep the head's matrices in the teacher's precision, where it is on a GPU.

        Autocast would cast weights that need no gradient at every call. Modules that
        compute in float32 by themselves (a stage's parts) stay as they are. On CPUs
        ``mmdiffdet.fast`` holds weights.
        """
        dtype = PRECISIONS[self.precision]
        if dtype is not None and next(self.model.parameters()).is_cuda:
            cast_matrices(self.model.bbox_head, dtype)

    def __call__(
        self,
        batch_inputs: Tensor,
        student_maps: Sequence[Tensor],
        use: Callable[[DiffusionDet, Any], _Result],
    ) -> _Result:
        """``use(model, table)`` without gradients, in the teacher's precision.

        Args:
            batch_inputs (Tensor): (B, 3, H, W), normalised and padded.
            student_maps (Sequence[Tensor]): Of the student's backbone.
            use (Callable): What to do with the model and its features.
        """
        model = self.model
        with torch.inference_mode(), in_precision(model, self.precision):
            # under AMP the student's maps may be less precise than wanted
            wanted = PRECISIONS[self.precision] or batch_inputs.dtype
            share = self.shares_backbone and student_maps[0].dtype == wanted
            maps = student_maps if share else model.backbone_maps(batch_inputs)
            return use(model, model.bbox_head.tabulate(model.neck(maps)))


def cast_matrices(head: nn.Module, dtype: torch.dtype) -> None:
    """Cast the linear layers of a head, but for those of parts, in place."""
    for name, module in head.named_modules():
        if '_parts.' in name:
            continue
        if isinstance(module, nn.Linear):
            module.to(dtype)
        elif isinstance(module, nn.MultiheadAttention):
            for own in (module.in_proj_weight, module.in_proj_bias):
                own.data = own.data.to(dtype)


def _equal(a: nn.Module, b: nn.Module) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(
        torch.equal(left[key], right[key].to(left[key].device))
        for key in left
        if not key.endswith('num_batches_tracked')
    )
