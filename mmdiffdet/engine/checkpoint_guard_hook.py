"""A checkpoint must be of the model that it is loaded into."""

import re
from typing import Any, Dict, List, Sequence

from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner
from torch import Tensor, nn
from torch.distributed.fsdp import (
    FullStateDictConfig,
    FullyShardedDataParallel,
    StateDictType,
)

from ..registry import HOOKS
from .checkpoint import check_finite
from .resume import check_resume, latest_checkpoint
from .unwrap import unwrap


@HOOKS.register_module()
class CheckpointGuardHook(Hook):
    """Stop where mmengine would print a warning and go on.

    In testing and resuming, checkpoint and model must have the same weights.
    When training starts from other weights (``load_from``), weights whose
    names match ``may_start_fresh`` may be missing, left over or of another
    shape; the checkpoint's are then dropped. The classes must be the same and
    in the same order, too, if the checkpoint tells its own.

    Args:
        may_start_fresh (Sequence[str]): Regular expressions, searched for in
            names. Defaults to the optional parts of a stage.

    Raises:
        ValueError: If ``may_start_fresh`` is text, or (when a checkpoint is
            loaded) a weight is NaN or infinite or does not fit.
    """

    priority = 'VERY_HIGH'

    def __init__(self, may_start_fresh: Sequence[str] = (r'_parts\.',)) -> None:
        if isinstance(may_start_fresh, str):
            raise ValueError(
                'CheckpointGuardHook: may_start_fresh must be a list of regular expressions, '
                f'e.g. [{may_start_fresh!r}], got text'
            )
        self.may_start_fresh = tuple(may_start_fresh)

    def after_load_checkpoint(self, runner: Runner, checkpoint: Dict[str, Any]) -> None:
        """Compare names and shapes, and classes.

        Raises:
            ValueError: If they differ; names the first weights that do.
        """
        weights = checkpoint.get('state_dict', checkpoint)
        weights = {re.sub(r'^module\.', '', k): v for k, v in weights.items()}
        source = runner._load_from or latest_checkpoint(runner.work_dir)
        check_finite(weights, source)
        expected = _weights_of(runner.model)
        # mmengine builds the train loop before it loads, the test loop alone
        # leaves its config
        begins = isinstance(runner._train_loop, BaseLoop) and not runner._resume

        problems: List[str] = []
        for name, value in expected.items():
            fresh = begins and any(re.search(pattern, name) for pattern in self.may_start_fresh)
            if name not in weights:
                if not fresh:
                    problems.append(f'missing {name}')
            elif weights[name].shape != value.shape:
                if fresh:
                    del weights[name]
                else:
                    problems.append(
                        f'{name} is {tuple(weights[name].shape)}, the model '
                        f'has {tuple(value.shape)}'
                    )
            elif weights[name].is_floating_point() != value.is_floating_point():
                problems.append(f'{name} is {weights[name].dtype}, the model has {value.dtype}')
        for name in [k for k in weights if k not in expected]:
            if begins and any(re.search(p, name) for p in self.may_start_fresh):
                del weights[name]  # of a part that this model does without
            else:
                problems.append(f'left over {name}')
        if problems:
            shown = '\n  '.join(problems[:8])
            more = len(problems) - 8
            raise ValueError(
                f'checkpoint {source} is of another model:\n  '
                f'{shown}'
                + (f'\n  and {more} more' if more > 0 else '')
                + '\nUse the config it was trained with. To start training '
                'from part of it, list the names of the rest in '
                'CheckpointGuardHook.may_start_fresh'
            )
        checkpoint['state_dict'] = weights
        if not begins:
            self._compare_classes(runner, checkpoint.get('meta') or {}, source)
        if isinstance(runner._train_loop, BaseLoop) and runner._resume:
            check_resume(runner, checkpoint, source)

    @staticmethod
    def _compare_classes(runner: Runner, meta: Dict[str, Any], source: object) -> None:
        learnt = (meta.get('dataset_meta') or {}).get('classes')
        for loop in (runner._train_loop, runner._val_loop, runner._test_loop):
            if learnt is None or not isinstance(loop, BaseLoop):
                continue
            dataset = loop.dataloader.dataset
            classes = dataset.metainfo.get('classes', ())
            if list(classes) != list(learnt):
                raise ValueError(
                    f'checkpoint {source} was trained for the classes '
                    f'{_short(learnt)}, {type(dataset).__name__} has '
                    f'{_short(classes)}: give the data set the same ones in '
                    'the same order (metainfo.classes)'
                )


def _weights_of(model: nn.Module) -> Dict[str, Tensor]:
    """Whole weights by name, on every process."""
    if not isinstance(model, FullyShardedDataParallel):
        return unwrap(model).state_dict()
    with FullyShardedDataParallel.state_dict_type(
        model, StateDictType.FULL_STATE_DICT, FullStateDictConfig()
    ):
        return model.state_dict()


def _short(classes: Sequence[str]) -> str:
    shown = ', '.join(classes[:8])
    return f'({shown}{", ..." if len(classes) > 8 else ""})'
