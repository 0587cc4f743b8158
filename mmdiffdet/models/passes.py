"""Which images of a test batch go through the network together."""

from contextlib import nullcontext
from typing import Callable, ContextManager, Dict, List, Sequence, Tuple, Union

from torch import Tensor

Measure = Callable[[Union[str, int], int], ContextManager]
"""Called with what is done and for how many images; gives a context manager."""


def unmeasured(name: Union[str, int], num_images: int) -> ContextManager:
    """A :data:`Measure` that does nothing."""
    return nullcontext()


def passes(images: Sequence[Tensor], divisor: int, size: int) -> List[List[int]]:
    """Indices of images, those of one padded shape together.

    Padding to a larger canvas would change convolution features.

    Args:
        images (Sequence[Tensor]): (..., H, W) each.
        divisor (int): Sides are padded to multiples of it.
        size (int): Most images in a pass.
    """
    groups: Dict[Tuple[int, ...], List[int]] = {}
    for i, image in enumerate(images):
        shape = tuple(-(-side // divisor) for side in image.shape[-2:])
        groups.setdefault(shape, []).append(i)
    return [group[i : i + size] for group in groups.values() for i in range(0, len(group), size)]
