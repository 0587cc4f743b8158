"""Registries of mmdiffdet: children of MMDetection's, scope ``mmdiffdet``.

A config with ``default_scope = 'mmdiffdet'`` finds a name here first, then in
mmdet, then in mmengine. ``BOX_SCHEDULERS`` and ``LABEL_SCHEDULERS`` have no
counterpart there: they hold Diffusers scheduler classes.
"""

from mmdet import registry as mmdet_registry
from mmengine import registry as mmengine_registry
from mmengine.registry import Registry

_SCOPE = 'mmdiffdet'


def _child(parent: Registry, *locations: str) -> Registry:
    # a search looks into the parents, but does not import their modules
    return Registry(
        parent.name,
        parent=parent,
        scope=_SCOPE,
        locations=[f'{_SCOPE}.{location}' for location in locations] + parent._locations,
    )


MODELS = _child(mmdet_registry.MODELS, 'models', 'losses')
TASK_UTILS = _child(mmdet_registry.TASK_UTILS, 'diffusion', 'losses')
HOOKS = _child(mmdet_registry.HOOKS, 'engine', 'distill')
OPTIM_WRAPPER_CONSTRUCTORS = _child(mmdet_registry.OPTIM_WRAPPER_CONSTRUCTORS, 'engine')
OPTIM_WRAPPERS = _child(mmdet_registry.OPTIM_WRAPPERS, 'engine')
DATASETS = _child(mmdet_registry.DATASETS, 'datasets')
TRANSFORMS = _child(mmdet_registry.TRANSFORMS, 'datasets')
DATA_SAMPLERS = _child(mmdet_registry.DATA_SAMPLERS, 'datasets')

LOOPS = _child(mmdet_registry.LOOPS, 'engine')
STRATEGIES = _child(mmengine_registry.STRATEGIES, 'engine')
METRICS = _child(mmdet_registry.METRICS, 'evaluation')

# these have no classes of ours and lead to MMDetection's
EVALUATOR = _child(mmdet_registry.EVALUATOR)
LOG_PROCESSORS = _child(mmdet_registry.LOG_PROCESSORS)
MODEL_WRAPPERS = _child(mmdet_registry.MODEL_WRAPPERS)
OPTIMIZERS = _child(mmdet_registry.OPTIMIZERS)
PARAM_SCHEDULERS = _child(mmdet_registry.PARAM_SCHEDULERS)
RUNNERS = _child(mmdet_registry.RUNNERS)
RUNNER_CONSTRUCTORS = _child(mmdet_registry.RUNNER_CONSTRUCTORS)
VISBACKENDS = _child(mmdet_registry.VISBACKENDS)
VISUALIZERS = _child(mmdet_registry.VISUALIZERS)
WEIGHT_INITIALIZERS = _child(mmdet_registry.WEIGHT_INITIALIZERS)

BOX_SCHEDULERS = Registry('box scheduler', scope=_SCOPE, locations=[f'{_SCOPE}.diffusion'])
LABEL_SCHEDULERS = Registry('label scheduler', scope=_SCOPE, locations=[f'{_SCOPE}.diffusion'])
