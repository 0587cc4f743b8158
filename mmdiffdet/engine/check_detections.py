"""What a detector gives out must be numbers."""

from contextlib import contextmanager
from typing import Any, Iterator, List, Sequence

import torch
from mmdet.structures import DetDataSample
from torch import Tensor, nn

_WAY = (
    'the checkpoint is damaged or diverged, or the precision is too low (test_cfg.precision). '
    'No results were written'
)


class FiniteWatch:
    """Looks at what ``model.bbox_head`` gives out, at every step.

    Boxes that are NaN have no area and would be dropped like others that have
    none: the test would end with AP 0 and not say why. One number for each
    batch goes to the CPU, when its detections do.

    Args:
        model (Module): A detector; nothing is looked at without ``bbox_head``.
    """

    def __init__(self, model: nn.Module) -> None:
        self.head = getattr(model, 'bbox_head', None)
        self._finite: List[Tensor] = []

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Look, while it lasts."""
        if not isinstance(self.head, nn.Module):
            yield
            return
        handle = self.head.register_forward_hook(self._look)
        try:
            yield
        finally:
            handle.remove()
            self._finite = []

    @torch.compiler.disable
    def _look(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._finite += [x.isfinite().all() for x in _tensors(output)]

    def check(self, samples: Sequence[DetDataSample]) -> None:
        """Look at what was seen since the last call.

        Args:
            samples (Sequence[DetDataSample]): Of the batch, to be named.

        Raises:
            FloatingPointError: Names the images.
        """
        seen, self._finite = self._finite, []
        if seen and not torch.stack(seen).all():
            images = ', '.join(str(_image(sample)) for sample in samples)
            raise FloatingPointError(
                f'outputs of model.bbox_head are not finite for images {images}: {_WAY}'
            )


def check_detections(samples: Sequence[DetDataSample], what: str = '') -> None:
    """Stop at boxes and scores that are NaN or infinite.

    Args:
        samples (Sequence[DetDataSample]): With ``pred_instances``, of which
            ``bboxes`` (N, 4) and ``scores`` (N,) are looked at.
        what (str): The test case, to be named.

    Raises:
        FloatingPointError: Names the image and what is not finite.
    """
    for sample in samples:
        found = getattr(sample, 'pred_instances', None)
        for name in ('bboxes', 'scores'):
            values = None if found is None else found.get(name)
            if values is None or not hasattr(values, 'isfinite') or values.isfinite().all():
                continue
            bad = int((~values.isfinite()).reshape(len(values), -1).any(1).sum())
            raise FloatingPointError(
                f'{name} of {bad} of {len(values)} detections of image {_image(sample)} are not '
                f'finite{f" ({what})" if what else ""}: {_WAY}'
            )


def _image(sample: DetDataSample) -> Any:
    return sample.get('img_path', sample.get('img_id', '?'))


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, (list, tuple)):
        for item in output:
            yield from _tensors(item)
    elif isinstance(output, dict):
        yield from _tensors(list(output.values()))
    elif hasattr(output, '__dataclass_fields__'):
        yield from _tensors([getattr(output, name) for name in output.__dataclass_fields__])
