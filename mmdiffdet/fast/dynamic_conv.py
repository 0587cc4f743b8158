"""Dynamic convolution on CPUs."""

from typing import Any, Dict, List, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.dynamic_conv import DynamicConv
from .groups import in_groups
from .products import Weights, held_for, product


class FastDynamicConv(DynamicConv):
    """On CPUs a product for each of the two matrices, so that each is contiguous.

    In testing the products are oneDNN's, for so many proposals at a time that
    their matrices stay in the cache. Elsewhere the plain way is fast.
    """

    held: Optional[List[Weights]] = None
    """Those of :meth:`weights`, cast and laid out; None where nothing is held."""

    def weights(self) -> List[Weights]:
        """Of the first matrix, of the second one and of the output, views."""
        layer, out = self.dynamic_layer, self.out_layer
        first, second = zip(layer.weight.chunk(2), layer.bias.chunk(2))
        return [first, second, (out.weight, out.bias)]

    def hold(self, dtype: Optional[torch.dtype]) -> None:
        """Keep the weights ready for autocast in ``dtype``, where that is faster."""
        self.held = held_for(self.weights(), dtype)

    def forward(self, features: Tensor, roi: Tensor) -> Tensor:
        """See the parent."""
        if features.device.type != 'cpu':
            return super().forward(features, roi)
        if torch.is_grad_enabled():
            return self._filter(features, roi)
        row_bytes = self.feat_channels * self.dynamic_dim * roi.element_size()
        return in_groups(self._filter, row_bytes, features, roi)

    def _filter(self, features: Tensor, roi: Tensor) -> Tensor:
        d, m = self.feat_channels, self.dynamic_dim
        first = self._product(0, features).view(-1, d, m)
        x = _norm_relu(self.norm1, torch.bmm(roi, first))
        del first  # memory for the second
        second = self._product(1, features).view(-1, m, d)
        x = _norm_relu(self.norm2, torch.bmm(x, second))
        return _norm_relu(self.norm3, self._product(2, x.flatten(1)))

    def _product(self, index: int, x: Tensor) -> Tensor:
        return product(x, self.weights()[index], self.held and self.held[index])

    def __getstate__(self) -> Dict[str, Any]:
        """Copies hold nothing: packed tensors can be neither copied nor saved."""
        return dict(self.__dict__, held=None)


def _norm_relu(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """Normalise and clip, in the precision of ``x``.

    Autocast would go to float32 and back; the CPU's kernel computes in
    float32 whatever it reads and writes.
    """
    with torch.autocast('cpu', enabled=False):
        return F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps).relu_()
