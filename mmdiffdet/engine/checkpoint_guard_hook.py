"""A checkpoint must be of the model that it is loaded into."""

import copy
import re
from typing import Any, Dict, List, Sequence, Set

import torch
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner
from torch import Tensor, nn
from torch.distributed.fsdp import (
    FullStateDictConfig,
    FullyShardedDataParallel,
    StateDictType,
)

from ..registry import HOOKS, MODELS
from .checkpoint import check_finite
from .resume import check_resume, latest_checkpoint, lay_out_states
from .trained_process import check_trained_process
from .unwrap import unwrap


@HOOKS.register_module()
class CheckpointGuardHook(Hook):
    """Stop where mmengine would print a warning and go on.

    In testing and resuming, checkpoint and model must have the same weights.
    When training starts from other weights (``load_from``), weights whose
    names match ``may_start_fresh`` may be missing, left over or of another
    shape; the checkpoint's are then dropped. In testing and resuming the classes
    must be the same and in the same order, too, if the checkpoint tells its own.

    Args:
        may_start_fresh (Sequence[str]): Regular expressions, searched for in
            names. Defaults to the optional parts of a stage.
        classes_start_fresh (bool): Whether, when training starts from other
            weights, those whose shape depends on the number of classes start
            fresh and are listed, unless the checkpoint tells that its classes
            are the data set's. Defaults to False: they must fit.

    Raises:
        ValueError: If ``may_start_fresh`` is text, or (when a checkpoint is
            loaded) a weight is NaN or infinite or does not fit.
    """

    priority = 'VERY_HIGH'

    def __init__(
        self, may_start_fresh: Sequence[str] = (r'_parts\.',), classes_start_fresh: bool = False
    ) -> None:
        if isinstance(may_start_fresh, str):
            raise ValueError(
                'CheckpointGuardHook: may_start_fresh must be a list of regular expressions, '
                f'e.g. [{may_start_fresh!r}], got text'
            )
        self.may_start_fresh = tuple(may_start_fresh)
        self.classes_start_fresh = classes_start_fresh

    def after_load_checkpoint(self, runner: Runner, checkpoint: Dict[str, Any]) -> None:
        """Compare names and shapes, classes and processes.

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

        other_classes = begins and self._other_classes(runner, checkpoint, source)
        of_classes = class_weights(runner.cfg.model, expected) if other_classes else set()
        problems: List[str] = []
        started: List[str] = []
        for name, value in expected.items():
            may = begins and any(re.search(pattern, name) for pattern in self.may_start_fresh)
            fits = name in weights and weights[name].shape == value.shape
            if name in of_classes or (may and not fits):
                weights[name] = value.detach().clone()  # the model's own
                started.append(name)
            elif name not in weights:
                problems.append(f'missing {name}')
            elif not fits:
                problems.append(
                    f'{name} is {tuple(weights[name].shape)}, the model has {tuple(value.shape)}'
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
                f'checkpoint {source} is of another model'
                + self._numbers_of_classes(runner, checkpoint)
                + ':\n  '
                f'{shown}'
                + (f'\n  and {more} more' if more > 0 else '')
                + '\nUse the config it was trained with. '
                + (
                    'To start training with other classes, use --finetune of tools/train.py; '
                    'with other parts, list their names in CheckpointGuardHook.may_start_fresh'
                    if begins
                    else ''
                )
                + (
                    ". A file of Detectron2 or of MMDetection's project goes through "
                    'tools/convert_checkpoint.py first'
                    if 2 * len(problems) > len(expected)
                    else ''
                )
            )
        if started:
            runner.logger.info(
                f'{source}: {len(started)} weights start fresh, all others are taken over: '
                + ', '.join(started)
            )
        checkpoint['state_dict'] = weights
        if not begins:
            meta = checkpoint.get('meta') or {}
            self._compare_classes(runner, meta, source)
            check_trained_process(unwrap(runner.model), meta, source)
        if isinstance(runner._train_loop, BaseLoop) and runner._resume:
            check_resume(runner, checkpoint, source)

    def before_train(self, runner: Runner) -> None:
        """Lay out what a resumed optimiser has of its weights, see :func:`lay_out_states`."""
        optimizer = getattr(runner.optim_wrapper, 'optimizer', None)
        if runner._resume and isinstance(optimizer, torch.optim.Optimizer):
            lay_out_states(optimizer)

    @staticmethod
    def _numbers_of_classes(runner: Runner, checkpoint: Dict[str, Any]) -> str:
        """That they differ, which is what mostly is wrong; else nothing."""
        learnt = (checkpoint.get('meta') or {}).get('dataset_meta') or {}
        head = getattr(unwrap(runner.model), 'bbox_head', None)
        expected = getattr(head, 'num_classes', None)
        if 'classes' not in learnt or expected in (None, len(learnt['classes'])):
            return ''
        return f': it has {len(learnt["classes"])} classes, the config {expected}'

    def _other_classes(self, runner: Runner, checkpoint: Dict[str, Any], source: str) -> bool:
        """Whether the weights of the classes are to start fresh."""
        meta = checkpoint.get('meta') or {}
        learnt = (meta.get('dataset_meta') or {}).get('classes')
        classes = runner.train_dataloader.dataset.metainfo.get('classes', ())
        same = learnt is not None and list(learnt) == list(classes)
        if learnt is not None and not same and not self.classes_start_fresh:
            runner.logger.warning(
                f'{source} was trained for the classes {_short(learnt)}, this training has '
                f'{_short(classes)}; its weights of the classes are taken over all the same. '
                '--finetune of tools/train.py lets them start fresh'
            )
        return self.classes_start_fresh and not same

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


def class_weights(model: Dict[str, Any], weights: Dict[str, Tensor]) -> Set[str]:
    """Names of weights whose shape depends on the number of classes.

    Args:
        model (dict): The model's config, whose ``bbox_head`` has ``num_classes``.
        weights (dict[str, Tensor]): Of the model.

    Raises:
        ValueError: If the model has no such head.
    """
    if 'num_classes' not in model.get('bbox_head', {}):
        raise ValueError(
            f'--finetune: model {model.get("type")} has no bbox_head with num_classes; list the '
            'weights of its classes in CheckpointGuardHook.may_start_fresh'
        )
    head = copy.deepcopy(model['bbox_head'])
    head['num_classes'] += 1
    with torch.random.fork_rng(devices=[]):  # nobody's draws move
        other = MODELS.build(head).state_dict()
    return {
        f'bbox_head.{name}'
        for name, value in other.items()
        if weights[f'bbox_head.{name}'].shape != value.shape
    }


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
