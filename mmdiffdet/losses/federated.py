"""Federated loss for data sets with many classes."""
from typing import Optional, Sequence

import torch
from torch import Tensor

from ..diffusion.noise import side_generator
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

    def __init__(self,
                 class_frequency: Optional[Sequence[float]] = None,
                 num_sampled: int = 50,
                 power: float = 0.5) -> None:
        if class_frequency is not None:
            class_frequency = [float(f) for f in class_frequency]
            if min(class_frequency) < 0 or max(class_frequency) == 0:
                raise ValueError('FederatedClasses: class_frequency must be '
                                 '>= 0, and not all zero')
        if num_sampled < 1 or power < 0:
            raise ValueError(
                'FederatedClasses: num_sampled must be at least 1 and power '
                f'>= 0; got {num_sampled} and {power}')
        self.class_frequency = class_frequency
        self.num_sampled = num_sampled
        self.power = power

    def check(self, num_classes: int) -> None:
        """Raise ValueError unless each class has a frequency, if any has."""
        frequency = self.class_frequency
        if frequency is not None and len(frequency) != num_classes:
            raise ValueError(
                f'FederatedClasses: {len(frequency)} class frequencies for '
                f'{num_classes} classes')

    def __call__(self, labels: Tensor, num_classes: int) -> Tensor:
        """(M,) labels of the batch's objects to sorted class indices.

        Raises:
            ValueError: If there is not one frequency a class.
        """
        if self.class_frequency is None:
            raise ValueError('FederatedClasses: class_frequency is not set; '
                             'give it in the config or add '
                             "dict(type='FederatedFrequencyHook') to "
                             'custom_hooks')
        self.check(num_classes)
        present = labels.unique()
        weight = torch.as_tensor(
            self.class_frequency, dtype=torch.float64)
        # a class that never occurs is not drawn, at power 0 either
        weight = torch.where(weight > 0, weight**self.power, 0.0)
        weight[present.cpu()] = 0
        wanted = min(self.num_sampled - len(present),
                     int((weight > 0).sum()))
        if wanted <= 0:
            return present
        drawn = torch.multinomial(
            weight, wanted, generator=side_generator('federated'))
        return torch.cat([present, drawn.to(present)]).sort()[0]
