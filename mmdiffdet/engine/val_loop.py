"""Validation during training."""

from mmengine.runner import ValLoop as MMEngineValLoop

from ..fast import accelerated
from ..registry import LOOPS


@LOOPS.register_module()
class ValLoop(MMEngineValLoop):
    """MMEngine's, by the faster kernels of :mod:`mmdiffdet.fast`."""

    def run(self) -> dict:
        """Validate; gives the metrics."""
        with accelerated(self.runner.model):
            return super().run()
