"""Images of the data loader on the device."""

from mmdet.models.data_preprocessors import DetDataPreprocessor as MMDetDataPreprocessor
from mmengine.utils import is_seq_of
from torch import Tensor

from ..registry import MODELS


@MODELS.register_module()
class DetDataPreprocessor(MMDetDataPreprocessor):
    """MMDetection's, which does not wait for a GPU, with equal values.

    MMEngine turns BGR into RGB by a list of indices, which is copied to the
    device for every image, while the host waits. Arguments are MMDetection's.
    """

    def forward(self, data: dict, training: bool = False) -> dict:
        """See the parent."""
        inputs = data['inputs']
        if not self._channel_conversion or not is_seq_of(inputs, Tensor):
            return super().forward(data, training)
        data = dict(data, inputs=[image.flip(0) for image in self.cast_data(inputs)])
        self._channel_conversion = False  # it is done
        try:
            return super().forward(data, training)
        finally:
            self._channel_conversion = True
