"""The detector as a component of a Diffusers pipeline."""

from pathlib import Path
from typing import Any, Dict, Optional, Sequence, Union

import safetensors.torch
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope

from ..engine.checkpoint import load_weights
from ..engine.precision import check_precision
from ..registry import MODELS
from ..utils import atomic_path
from .images import ImageProcessor
from .inference_config import check_types

WEIGHTS_NAME = 'diffusion_pytorch_model.safetensors'


class DiffusionDetModel(ModelMixin, ConfigMixin):
    """A detector with its test pipeline and class names.

    Its folder holds ``config.json`` and the detector's weights under the names
    that they have in training, so that the file is a checkpoint, too.

    Args:
        model (dict): Config of the detector.
        test_pipeline (Sequence[dict]): Config of the transforms.
        classes (Sequence[str]): Class names, by label.
        precision (str): ``fp32``, ``bf16`` or ``fp16`` (autocast).
    """

    config_name = 'config.json'

    @register_to_config
    def __init__(
        self,
        model: Dict[str, Any],
        test_pipeline: Sequence[Dict[str, Any]],
        classes: Sequence[str],
        precision: str = 'fp32',
    ) -> None:
        super().__init__()
        check_precision(precision, 'precision')
        # weights are loaded: nothing is drawn, and nobody's draws move
        with (
            torch.random.fork_rng(devices=[]),
            DefaultScope.overwrite_default_scope('mmdiffdet'),
        ):
            self.detector = MODELS.build(ConfigDict(model))
        self.processor = ImageProcessor(test_pipeline)
        self.eval()

    def to(self, *args: Any, **kwargs: Any) -> 'DiffusionDetModel':
        """Move it, as any module."""
        super().to(*args, **kwargs)
        # MMEngine's own, which tells the preprocessor where to put images
        self.detector.to(self.device)
        return self

    def cuda(self, device: Union[int, torch.device, None] = None) -> 'DiffusionDetModel':
        """Move it to a GPU."""
        return self.to('cuda' if device is None else torch.device(device))

    def cpu(self) -> 'DiffusionDetModel':
        """Move it to the CPU."""
        return self.to('cpu')

    def save_pretrained(self, save_directory: Union[str, Path], **kwargs: Any) -> None:
        """Write ``config.json`` and the weights as safetensors into a folder.

        ``kwargs`` are Diffusers'; ValueError at ``safe_serialization=False``.
        """
        if kwargs.get('safe_serialization') is False:
            raise ValueError('weights are written as safetensors only, not pickled')
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        self.save_config(folder)
        weights = {k: v.contiguous() for k, v in self.detector.state_dict().items()}
        with atomic_path(folder / WEIGHTS_NAME) as path:
            safetensors.torch.save_file(weights, path, metadata=dict(format='pt'))

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Union[str, Path],
        subfolder: Optional[str] = None,
        torch_dtype: Optional[torch.dtype] = None,
        **kwargs: Any,
    ) -> 'DiffusionDetModel':
        """Build the model of a local folder and load its weights, all of them.

        ``torch_dtype`` is None or float32; other ``kwargs`` of Diffusers have no effect
        on one file on one device. ValueError if the config names other than registered
        parts of a detector, or weights do not fit or are not finite.
        """
        if torch_dtype not in (None, torch.float32):
            raise ValueError(
                f'torch_dtype={torch_dtype}: weights stay in float32; set precision="bf16" or '
                '"fp16" in the call, which computes in it'
            )
        folder = Path(pretrained_model_name_or_path, subfolder or '')
        if not (folder / cls.config_name).is_file():
            raise FileNotFoundError(f'{folder / cls.config_name} does not exist')
        config = cls.load_config(folder)
        for key in ('model', 'test_pipeline'):
            check_types(config.get(key))
        model = cls.from_config(config)
        load_weights(
            model.detector, folder / WEIGHTS_NAME, f'{folder / cls.config_name} is of another one'
        )
        return model
