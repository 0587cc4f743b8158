"""Registries of mmdiffdet: children of MMDetection's, scope ``mmdiffdet``.

A config with ``default_scope = 'mmdiffdet'`` finds a name here first, then in
mmdet, then in mmengine. ``BOX_SCHEDULERS`` and ``LABEL_SCHEDULERS`` have no
counterpart there: they hold Diffusers scheduler classes.
"""
from mmdet import registry as mmdet_registry
from mmengine.registry import Registry

_SCOPE = 'mmdiffdet'


def _child(name: str, parent: Registry, *locations: str) -> Registry:
    return Registry(
        name,
        parent=parent,
        scope=_SCOPE,
        locations=[f'{_SCOPE}.{location}' for location in locations])


MODELS = _child('model', mmdet_registry.MODELS, 'models', 'losses')
TASK_UTILS = _child('task util', mmdet_registry.TASK_UTILS, 'diffusion',
                    'losses')
HOOKS = _child('hook', mmdet_registry.HOOKS, 'engine')
LOOPS = _child('loop', mmdet_registry.LOOPS, 'engine')
OPTIM_WRAPPERS = _child('optimizer wrapper', mmdet_registry.OPTIM_WRAPPERS,
                        'engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child(
    'optimizer wrapper constructor',
    mmdet_registry.OPTIM_WRAPPER_CONSTRUCTORS, 'engine')
DATASETS = _child('dataset', mmdet_registry.DATASETS, 'datasets')
TRANSFORMS = _child('transform', mmdet_registry.TRANSFORMS, 'datasets')
METRICS = _child('metric', mmdet_registry.METRICS, 'evaluation')

BOX_SCHEDULERS = Registry(
    'box scheduler', scope=_SCOPE, locations=[f'{_SCOPE}.diffusion'])
LABEL_SCHEDULERS = Registry(
    'label scheduler', scope=_SCOPE, locations=[f'{_SCOPE}.diffusion'])
