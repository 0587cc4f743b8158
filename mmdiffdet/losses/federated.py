"""Choice of classes of a federated loss, for data sets with many classes."""

from typing import List, Optional, Sequence, Tuple

import torch
from torch import Tensor

from ..diffusion.noise import hashed_uniform, side_generator
from ..registry import TASK_UTILS


@TASK_UTILS.register_module()
class FederatedClasses:
    """The classes that a batch's classification loss looks at.

    Those of its objects and, up to ``num_sampled`` in all, others drawn with
    weights frequency ** power (CenterNet2, arXiv 2103.07461, sec. 5.3).

    Args:
        class_frequency (Sequence[float], optional): Number of training images
            with each class; None is filled in from the training data set by
            ``FederatedFrequencyHook``.
        num_sampled (int): Classes in all. Defaults to 50.
        power (float): Defaults to 0.5.

    Raises:
        ValueError: If a number is out of its range.
    """

    def __init__(
        self,
        class_frequency: Optional[Sequence[float]] = None,
        num_sampled: int = 50,
        power: float = 0.5,
    ) -> None:
        if num_sampled < 1 or power < 0:
            raise ValueError(
                'FederatedClasses: num_sampled must be at least 1 and power '
                f'>= 0; got {num_sampled} and {power}'
            )
        self.num_sampled = num_sampled
        self.power = power
        self.class_frequency = class_frequency

    @property
    def class_frequency(self) -> Optional[List[float]]:
        """Number of training images with each class."""
        return self._frequency

    @class_frequency.setter
    def class_frequency(self, frequency: Optional[Sequence[float]]) -> None:
        if frequency is not None:
            frequency = [float(f) for f in frequency]
            if not all(f >= 0 for f in frequency) or not any(frequency):
                raise ValueError('FederatedClasses: class_frequency must be >= 0, and not all zero')
        self._frequency = frequency
        self._weight: Optional[Tensor] = None  # on the device of the first call

    def check(self, num_classes: int) -> None:
        """Raise ValueError unless each class has a frequency, if any has."""
        frequency = self.class_frequency
        if frequency is not None and len(frequency) != num_classes:
            raise ValueError(
                f'FederatedClasses: {len(frequency)} class frequencies for {num_classes} classes'
            )

    def __call__(self, labels: Tensor, num_classes: int) -> Tuple[Tensor, Tensor]:
        """Choose classes: (C,) long, and (C,) bool whether each counts.

        Their number C depends on shapes alone, so that no size has to be read back
        from a GPU. ``labels`` (B, G) are those of the batch's objects, -1 where there
        is none. ValueError if there is not one frequency a class.
        """
        if self.class_frequency is None:
            raise ValueError(
                'FederatedClasses: class_frequency is not set; give it in the config or add '
                "dict(type='FederatedFrequencyHook') to custom_hooks"
            )
        self.check(num_classes)
        device = labels.device
        if self._weight is None or self._weight.device != device:
            weight = torch.tensor(self.class_frequency, device=device)
            # a class that never occurs is not drawn, at power 0 either
            self._weight = torch.where(weight > 0, weight**self.power, 0.0)
        # drawing without replacement: the largest of weight / exponential
        # numbers (Efraimidis and Spirakis, 2006)
        seed = side_generator('federated').initial_seed()
        rank = self._weight / -hashed_uniform(seed, num_classes, device).log()
        present = labels.flatten().clamp(min=0)
        rank = rank.scatter_reduce(
            0, present, torch.where(labels.flatten() < 0, -torch.inf, torch.inf), 'amax'
        )
        size = min(num_classes, max(self.num_sampled, labels.numel()))
        rank, classes = rank.topk(size)
        place = torch.arange(size, device=device)
        return classes, rank.isinf() | (rank > 0) & (place < self.num_sampled)
