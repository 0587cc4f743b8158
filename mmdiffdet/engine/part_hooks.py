"""Hooks that tell parts of the model what they cannot know."""

from typing import Optional

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from ..datasets.counts import images_per_class
from ..models.parts import GeometryFeature
from ..registry import HOOKS
from .unwrap import unwrap


@HOOKS.register_module()
class GeometryWarmupHook(Hook):
    """Bring geometry features in late and gradually, in training.

    Args:
        start (int): Their factor is 0 before this iteration. Defaults to 0.
        warmup (int): Iterations in which it then grows to 1. Defaults to 0.

    Raises:
        ValueError: If a number is negative, or (before training) the model
            has no ``GeometryFeature``.
    """

    def __init__(self, start: int = 0, warmup: int = 0) -> None:
        if start < 0 or warmup < 0:
            raise ValueError(
                f'GeometryWarmupHook: start and warmup must be >= 0, got {start} and {warmup}'
            )
        self.start = start
        self.warmup = warmup

    def before_train(self, runner: Runner) -> None:
        """Find the parts."""
        self.parts = [m for m in runner.model.modules() if isinstance(m, GeometryFeature)]
        if not self.parts:
            raise ValueError('GeometryWarmupHook: the model has no GeometryFeature')

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Optional[dict] = None
    ) -> None:
        """Set the factor of this iteration."""
        factor = self.factor(runner.iter)
        for part in self.parts:
            part.train_factor = factor

    def factor(self, iteration: int) -> float:
        """0 before ``start``, then (i - start + 1) / warmup up to 1."""
        if iteration < self.start:
            return 0.0
        return min(1.0, (iteration - self.start + 1) / max(self.warmup, 1))


@HOOKS.register_module()
class FederatedFrequencyHook(Hook):
    """Count each class's training images for ``FederatedClasses``.

    Raises:
        ValueError: If the criterion has no ``FederatedClasses``.
    """

    def before_train(self, runner: Runner) -> None:
        """Count, unless the config gave frequencies."""
        criterion = unwrap(runner.model).criterion
        if criterion.federated is None:
            raise ValueError(
                'FederatedFrequencyHook: set '
                'model.criterion.federated=dict(type='
                "'FederatedClasses')"
            )
        if criterion.federated.class_frequency is not None:
            return
        dataset = runner.train_dataloader.dataset
        criterion.federated.class_frequency = images_per_class(dataset, criterion.num_classes)
        print_log(f'federated loss: counted classes in {len(dataset)} images', 'current')
