"""A moving average of weights in a few kernels."""

import math
from typing import List, Optional

import torch
from mmengine.model import ExponentialMovingAverage
from torch import Tensor, nn

from ..registry import MODELS


@MODELS.register_module()
class ForeachEMA(ExponentialMovingAverage):
    """MMEngine's moving average with all weights updated at once.

    The average of iteration k becomes (1 - m_k) average + m_k weights. MMEngine's
    classes launch a kernel for each weight on a GPU; here PyTorch's ``foreach``
    operators take all weights together. For ``EMAHook(ema_type='ForeachEMA')``; names in
    checkpoints are those of MMEngine's averages, which can be resumed.

    Args:
        model (nn.Module): Whose weights are averaged.
        momentum (float): m, share of the new weights. Defaults to 0.0002.
        gamma (float, optional): Lets m_k = m + (1 - m) exp(-(1 + k) / gamma) fall
            to m, as MMDetection's ``ExpMomentumEMA`` does, so that the first
            weights are soon forgotten.
        interval (int): Iterations between two updates.
        device (torch.device, optional): Where the average is.
        update_buffers (bool): Average floating point buffers too; by default
            all buffers are copied.

    Raises:
        ValueError: If ``momentum`` is not in (0, 1), or ``gamma`` or ``interval``
            is not positive.
    """

    def __init__(
        self,
        model: nn.Module,
        momentum: float = 0.0002,
        gamma: Optional[float] = None,
        interval: int = 1,
        device: Optional[torch.device] = None,
        update_buffers: bool = False,
    ) -> None:
        if not 0 < momentum < 1:
            raise ValueError(f'ForeachEMA: momentum must be in (0, 1), got {momentum}')
        if interval < 1 or (gamma is not None and gamma <= 0):
            raise ValueError(
                f'ForeachEMA: gamma and interval must be positive, got {gamma} and {interval}'
            )
        super().__init__(model, momentum, interval, device, update_buffers)
        self.gamma = gamma

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Let the average follow the weights of ``model``."""
        updates = int(self.steps)
        theirs = model.state_dict() if self.update_buffers else dict(model.named_parameters())
        if updates == 0:
            self._copy(list(self.avg_parameters.values()), [theirs[k] for k in self.avg_parameters])
        elif updates % self.interval == 0:
            names = [k for k, p in self.avg_parameters.items() if p.is_floating_point()]
            average = [self.avg_parameters[k].data for k in names]
            new = [theirs[k].data.to(p.device, p.dtype) for k, p in zip(names, average)]
            torch._foreach_lerp_(average, new, self._momentum(updates))
        if not self.update_buffers:
            self._copy(list(self.module.buffers()), list(model.buffers()))
        self.steps += 1

    def _momentum(self, updates: int) -> float:
        if self.gamma is None:
            return self.momentum
        return self.momentum + (1 - self.momentum) * math.exp(-(1 + updates) / self.gamma)

    @staticmethod
    def _copy(to: List[Tensor], source: List[Tensor]) -> None:
        # lists of one type each: others would be copied one by one
        for dtype in {p.dtype for p in to}:
            pairs = [(p.data, q.data) for p, q in zip(to, source) if p.dtype == dtype]
            torch._foreach_copy_(*map(list, zip(*pairs)))
