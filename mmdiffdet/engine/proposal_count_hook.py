"""Tell of images with more objects than the model has proposals."""

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..datasets.counts import objects_per_image
from ..registry import HOOKS
from .unwrap import unwrap


@HOOKS.register_module()
class ProposalCountHook(Hook):
    """Count, before training, images whose objects outnumber the proposals.

    A proposal is trained on one object, so that the other objects of such an
    image are not learnt from in that iteration. It counts what the
    annotations hold, before any augmentation.
    """

    @master_only
    def before_train(self, runner: Runner) -> None:
        """Warn once, if there are any."""
        cfg = getattr(unwrap(runner.model), 'train_cfg', None) or {}
        num_proposals = cfg.get('num_proposals')
        if num_proposals is None:  # a model without proposals
            return
        counts = objects_per_image(runner.train_dataloader.dataset)
        crowded = [count for count in counts if count > num_proposals]
        if crowded:
            runner.logger.warning(
                f'{len(crowded)} of {len(counts)} training images have more '
                f'objects than the model has proposals ({num_proposals}), at '
                f'most {max(crowded)}; objects beyond that are not learnt '
                'from. Raise model.train_cfg.num_proposals (and '
                'model.test_cfg.num_proposals)'
            )
