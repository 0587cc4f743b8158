"""Validation during training."""

from mmengine.runner import ValLoop as MMEngineValLoop

from ..fast import accelerated
from ..registry import LOOPS
from .images_per_pass import in_passes


@LOOPS.register_module()
class ValLoop(MMEngineValLoop):
    """MMEngine's, by the faster kernels of :mod:`mmdiffdet.fast`."""

    def run(self) -> dict:
        """Validate; gives the metrics."""
        with accelerated(self.runner.model), in_passes(self.runner, self.dataloader):
            return super().run()
