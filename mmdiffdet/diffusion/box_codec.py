"""Boxes as a diffusion signal."""

import math
from typing import Sequence, Union

import torch
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy, bbox_xyxy_to_cxcywh
from torch import Tensor

from ..device import on_device
from ..registry import TASK_UTILS


def sizes_of(img_metas: Sequence[dict], device: torch.device) -> Tensor:
    """(B, 2) height and width of the resized, unpadded images, pixels."""
    return on_device([m['img_shape'][:2] for m in img_metas], device)


def image_scale(image_sizes: Tensor) -> Tensor:
    """(B, 2) sizes as (height, width) to (B, 1, 4) as (w, h, w, h)."""
    return image_sizes.flip(-1).repeat(1, 2)[:, None]


@TASK_UTILS.register_module()
class BoxCodec:
    """Absolute boxes <-> the signal that is diffused.

    With b = (cx, cy, w, h) normalised by the resized, unpadded image, the
    signal is x = (2 b - 1) * scale (DiffusionDet, arXiv 2211.09788, sec. 3.3).
    Anisotropic noise is a change of units: the signal is divided by
    ``noise_sigma``, so that every draw everywhere stays standard normal and
    no scheduler has to know. So is noise around other boxes than those in the
    middle of the image: ``noise_mean`` is subtracted first. Clamping is to
    [-scale, scale] in units of x, before mean and sigma are applied.

    Args:
        scale (float): Signal scale, the square root of the signal-to-noise
            ratio. Defaults to 2.
        noise_sigma (Sequence[float]): Standard deviation of the noise of
            cx, cy, w and h relative to the isotropic one. Defaults to ones.
        noise_mean (Sequence[float] | str): Where the noise of cx, cy, w and h has
            its middle, in units of the signal x; defaults to zeros, boxes of
            half the image in its middle. With ``noise_mean='from_file'`` in a
            config, this and ``noise_sigma`` are mean and deviation of the
            training set's boxes (the data-derived prior of FlowDet, arXiv
            2512.16771), see :mod:`mmdiffdet.datasets.box_prior`.

    Raises:
        ValueError: If ``scale`` or a sigma is not positive, or a mean is not
            within [-scale, scale].
    """

    def __init__(
        self,
        scale: float = 2.0,
        noise_sigma: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
        noise_mean: Union[Sequence[float], str] = (0.0, 0.0, 0.0, 0.0),
    ) -> None:
        if not 0 < scale < math.inf:
            raise ValueError(f'BoxCodec: scale must be positive, got {scale}')
        if len(noise_sigma) != 4 or not all(0 < s < math.inf for s in noise_sigma):
            raise ValueError(
                'BoxCodec: noise_sigma must be four positive '
                f'numbers (cx, cy, w, h), got {noise_sigma}'
            )
        if noise_mean == 'from_file':
            raise ValueError(
                "BoxCodec: noise_mean='from_file' is filled in when a config is read with "
                'mmdiffdet.config.file.read_config; give numbers otherwise'
            )
        if len(noise_mean) != 4 or not all(abs(m) <= scale for m in noise_mean):
            raise ValueError(
                f'BoxCodec: noise_mean must be four numbers (cx, cy, w, h) from {-scale} to '
                f'{scale}, got {noise_mean}'
            )
        self.scale = scale
        self.noise_mean = tuple(float(m) for m in noise_mean)
        self.noise_sigma = tuple(float(s) for s in noise_sigma)

    def normalize(self, boxes: Tensor, image_sizes: Tensor) -> Tensor:
        """(B, N, 4) xyxy in pixels to cxcywh in units of the image."""
        return bbox_xyxy_to_cxcywh(boxes / image_scale(image_sizes))

    def to_signal(self, normalized: Tensor) -> Tensor:
        """(..., 4) normalised cxcywh to signal, not clamped."""
        signal = (normalized * 2 - 1) * self.scale
        if any(self.noise_mean):
            signal = signal - self._mean(signal)
        return signal / self._sigma(signal)

    def encode(self, boxes: Tensor, image_sizes: Tensor) -> Tensor:
        """(B, N, 4) xyxy in pixels to a clamped signal of the same shape.

        Args:
            boxes (Tensor): (B, N, 4), xyxy in pixels.
            image_sizes (Tensor): (B, 2), height and width of the resized,
                unpadded images.
        """
        return self.clamp(self.to_signal(self.normalize(boxes, image_sizes)))

    def decode(self, signal: Tensor, image_sizes: Tensor) -> Tensor:
        """(B, N, 4) signal, clamped here, to xyxy in pixels.

        Boxes may reach over the image's border; width and height are never
        negative but may be zero.
        """
        signal = self.clamp(signal) * self._sigma(signal)
        if any(self.noise_mean):
            signal = signal + self._mean(signal)
        normalized = (signal / self.scale + 1) / 2
        return bbox_cxcywh_to_xyxy(normalized) * image_scale(image_sizes)

    def clamp(self, signal: Tensor) -> Tensor:
        """Limit (..., 4) signal to [-scale, scale] in units of x, see above."""
        if any(self.noise_mean):
            mean, sigma = self._mean(signal), self._sigma(signal)
            low, high = (-self.scale - mean) / sigma, (self.scale - mean) / sigma
            return torch.minimum(torch.maximum(signal, low), high)
        if self._isotropic:
            limit = self.scale / self.noise_sigma[0]
            return signal.clamp(-limit, limit)
        limit = self.scale / self._sigma(signal)
        return torch.minimum(torch.maximum(signal, -limit), limit)

    @property
    def _isotropic(self) -> bool:
        return len(set(self.noise_sigma)) == 1

    def _sigma(self, like: Tensor) -> Union[float, Tensor]:
        """Of the four coordinates, (4,), or the one number that holds for all."""
        if self._isotropic:
            return self.noise_sigma[0]
        return on_device(self.noise_sigma, like.device, like.dtype)

    def _mean(self, like: Tensor) -> Tensor:
        return on_device(self.noise_mean, like.device, like.dtype)
