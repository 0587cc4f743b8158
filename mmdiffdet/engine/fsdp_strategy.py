"""Weights and the optimiser's states divided among processes."""

from typing import Any, Optional, Union

import torch
from mmengine._strategy import FSDPStrategy
from torch import nn
from torch.distributed.fsdp import (
    FullOptimStateDictConfig,
    FullStateDictConfig,
    FullyShardedDataParallel,
)

from ..registry import STRATEGIES

_SCALE = 'loss_scaler'  # MMEngine's name


@STRATEGIES.register_module()
class WholeFSDPStrategy(FSDPStrategy):
    """MMEngine's, which writes whole checkpoints and can resume them.

    MMEngine's own hands the optimiser's state to torch in an order of
    arguments that torch 2.1 changed. This one runs on CPU processes, too.

    Args:
        model_wrapper (dict, optional): Arguments of
            ``MMFullyShardedDataParallel``.
        kwargs: Of ``FSDPStrategy``, without ``state_dict_cfg``.
    """

    def __init__(self, model_wrapper: Optional[dict] = None, **kwargs: Any) -> None:
        wrapper = dict(type='MMFullyShardedDataParallel', **(model_wrapper or {}))
        super().__init__(model_wrapper=wrapper, state_dict_cfg='full', **kwargs)
        if not torch.cuda.is_available():
            wrapper.setdefault('device_id', 'cpu')
            # moving to the CPU what is there already crashes in torch
            self.state_dict_config = FullStateDictConfig(rank0_only=True)
            self.optim_state_dict_config = FullOptimStateDictConfig(rank0_only=True)

    def build_model(self, model: Union[nn.Module, dict]) -> nn.Module:
        """Build the model.

        Raises:
            ValueError: If it has scalar weights, which cannot be divided.
        """
        model = super().build_model(model)
        scalars = [name for name, p in model.named_parameters() if not p.dim()]
        if scalars:
            raise ValueError(
                f'FSDP cannot divide the scalar weights {scalars[:3]}: train '
                'without these parts, or without strategy and runner_type'
            )
        return model

    def optim_state_dict(self) -> dict:
        """The optimiser's state with the loss scale of float16, which torch leaves out."""
        state = super().optim_state_dict()
        scaler = getattr(self.optim_wrapper, 'loss_scaler', None)
        return state if scaler is None else {**state, _SCALE: scaler.state_dict()}

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Load the optimiser's state, of a whole checkpoint."""
        optimizer = self.optim_wrapper.optimizer
        state = {k: v for k, v in state_dict.items() if k != _SCALE}
        state = FullyShardedDataParallel.optim_state_dict_to_load(self.model, optimizer, state)
        if _SCALE in state_dict:
            state[_SCALE] = state_dict[_SCALE]
        self.optim_wrapper.load_state_dict(state)
