"""Boxes as a diffusion signal."""

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
    no scheduler has to know. Clamping is to [-scale, scale] in undivided
    units.

    Args:
        scale (float): Signal scale, the square root of the signal-to-noise
            ratio. Defaults to 2.
        noise_sigma (Sequence[float]): Standard deviation of the noise of
            cx, cy, w and h relative to the isotropic one. Defaults to ones.

    Raises:
        ValueError: If ``scale`` or a sigma is not positive.
    """

    def __init__(
        self, scale: float = 2.0, noise_sigma: Sequence[float] = (1.0, 1.0, 1.0, 1.0)
    ) -> None:
        if scale <= 0:
            raise ValueError(f'BoxCodec: scale must be positive, got {scale}')
        if len(noise_sigma) != 4 or min(noise_sigma) <= 0:
            raise ValueError(
                'BoxCodec: noise_sigma must be four positive '
                f'numbers (cx, cy, w, h), got {noise_sigma}'
            )
        self.scale = scale
        self.noise_sigma = tuple(float(s) for s in noise_sigma)

    def normalize(self, boxes: Tensor, image_sizes: Tensor) -> Tensor:
        """(B, N, 4) xyxy in pixels to cxcywh in units of the image."""
        return bbox_xyxy_to_cxcywh(boxes / image_scale(image_sizes))

    def to_signal(self, normalized: Tensor) -> Tensor:
        """(..., 4) normalised cxcywh to signal, not clamped."""
        return (normalized * 2 - 1) * self.scale / self._sigma(normalized)

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
        normalized = (self.clamp(signal) * self._sigma(signal) / self.scale + 1) / 2
        return bbox_cxcywh_to_xyxy(normalized) * image_scale(image_sizes)

    def clamp(self, signal: Tensor) -> Tensor:
        """Limit (..., 4) signal to [-scale, scale] in undivided units."""
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
