"""torch.compile for the parts of a detector that pay."""

import fnmatch
from dataclasses import fields, is_dataclass, replace
from typing import Any, Dict, List, Sequence

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException
from torch.utils._pytree import tree_map_only

from ..registry import HOOKS
from .unwrap import unwrap

# each stage has a form for its place in the cascade, for training and testing,
# and for fixed and changing image sizes
_RECOMPILE_LIMIT = 64
# in these a compiled module is a CUDA graph
_GRAPH_MODES = ('reduce-overhead', 'max-autotune')


@HOOKS.register_module()
class CompileHook(Hook):
    """Compile modules of the detector, in training and testing.

    MMEngine's ``compile`` compiles ``train_step``: matching and logging break
    it into dozens of pieces, and testing is left out. Backbone and stages have
    no such breaks, and the stages share their code. Names of weights, copies
    of the model and checkpoints stay as they are. Results equal those of the
    plain code up to rounding.

    If compilation fails (no C++ compiler, an operator that is not supported),
    a warning says why and all modules run as they would without this hook.

    With ``mode='reduce-overhead'`` or ``'max-autotune'`` a module is a CUDA graph,
    whose results lie where the next graph may write. They are copied unless a
    gradient needs them, as the next stage and the sampler still read them.

    Args:
        modules (Sequence[str]): Names in the detector, ``*`` for any. Defaults
            to backbone and stages.
        kwargs: Of ``torch.compile``, e.g. ``mode``, ``backend``, ``dynamic``.
    """

    def __init__(
        self, modules: Sequence[str] = ('backbone', 'bbox_head.head_series.*'), **kwargs: Any
    ) -> None:
        self.patterns = list(modules)
        self.options = kwargs
        self.compiled: Dict[str, nn.Module] = {}

    def before_run(self, runner: Runner) -> None:
        """Compile; the work is done at the first call.

        Raises:
            ValueError: If a name of ``modules`` fits none of the detector.
        """
        model = unwrap(runner.model)
        names = [name for name, _ in model.named_modules()]
        for pattern in self.patterns:
            depth = pattern.count('.')
            found = [n for n in fnmatch.filter(names, pattern) if n.count('.') == depth]
            if not found:
                raise ValueError(
                    f'CompileHook: {type(model).__name__} has no module '
                    f'{pattern!r}; choose from {_children(names)} in modules'
                )
            self.compiled.update((name, model.get_submodule(name)) for name in found)
        config = torch._dynamo.config
        config.recompile_limit = max(config.recompile_limit, _RECOMPILE_LIMIT)
        for name, module in self.compiled.items():
            self._compile(name, module)

    def _compile(self, name: str, module: nn.Module) -> None:
        # as Module.compile, which keeps names and leaves copies plain
        compiled = torch.compile(module._call_impl, **self.options)
        graphs = self.options.get('mode') in _GRAPH_MODES

        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                result = compiled(*args, **kwargs)
                return _copied(result) if graphs else result
            except TorchDynamoException as error:
                self._fall_back(name, error)
                return module(*args, **kwargs)

        module._compiled_call_impl = call

    def _fall_back(self, name: str, error: Exception) -> None:
        for module in self.compiled.values():
            module._compiled_call_impl = None
        lines = [line for line in str(error).splitlines() if line.strip()]
        reason = ' '.join(lines[:2]) or type(error).__name__
        MMLogger.get_current_instance().warning(
            f'torch.compile failed for {name}, the model runs without it: '
            f'{type(error).__name__} {reason}'
        )


def _copied(result: Any) -> Any:
    """The same with copies of the tensors that no gradient goes through."""
    if is_dataclass(result):
        values = {f.name: _copied(getattr(result, f.name)) for f in fields(result)}
        return replace(result, **values)
    return tree_map_only(Tensor, lambda t: t if t.requires_grad else t.clone(), result)


def use_compile(cfg: Config) -> None:
    """Let ``compile`` of a config mean :class:`CompileHook`.

    Args:
        cfg (Config): Changed in place. ``compile=True``, or a dict with the
            hook's arguments, as for MMEngine.
    """
    options = cfg.get('compile')
    if options:
        hook = {} if options is True else dict(options)
        cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), dict(type='CompileHook', **hook)]
        cfg.compile = False


def _children(names: Sequence[str]) -> List[str]:
    return sorted(name for name in names if name and '.' not in name)
