"""The schedulers that a pipeline takes."""

import json
from pathlib import Path
from typing import Dict, Optional

from diffusers.schedulers.scheduling_utils import SchedulerMixin
from mmengine.registry import Registry

from ..registry import BOX_SCHEDULERS, LABEL_SCHEDULERS

_MODEL = ('mmdiffdet.pipelines.model', 'DiffusionDetModel')


def _by_name(registry: Registry) -> Dict[tuple, type]:
    """Registered classes by (library, name), as ``model_index.json`` names them."""
    registry.import_from_location()
    found = {}
    for part in registry.module_dict.values():
        library = part.__module__
        if library.startswith('diffusers.'):
            library = 'diffusers'
        found[library, part.__name__] = part
    return found


_SCHEDULERS = dict(scheduler=_by_name(BOX_SCHEDULERS), label_scheduler=_by_name(LABEL_SCHEDULERS))


def own_scheduler(scheduler: SchedulerMixin) -> SchedulerMixin:
    """A scheduler that the reverse process can use, made of a pipeline's.

    Diffusers' own DDIM drifts where the number of steps does not divide T; it becomes
    the one of this package. ValueError if the class is not registered, or made for a
    network that predicts something else than x_0.
    """
    name = type(scheduler).__name__
    BOX_SCHEDULERS.import_from_location()
    if name not in BOX_SCHEDULERS.module_dict:
        raise ValueError(
            f'unknown box scheduler {name!r}; registered are {sorted(BOX_SCHEDULERS.module_dict)}'
        )
    predicts = scheduler.config.get('prediction_type')
    if predicts not in ('sample', None):
        raise ValueError(
            f"{name}: prediction_type must be 'sample', got {predicts!r}; make it by "
            f'{name}.from_config(pipe.scheduler.config)'
        )
    ours = BOX_SCHEDULERS.module_dict[name]
    return scheduler if isinstance(scheduler, ours) else ours.from_config(scheduler.config)


def load_schedulers(folder: Path) -> Dict[str, Optional[SchedulerMixin]]:
    """``scheduler`` and ``label_scheduler`` (or None) of a pipeline's folder.

    Diffusers would import whatever modules ``model_index.json`` names; here classes
    must be registered. ValueError if the index cannot be read or names other parts.
    """
    path = folder / 'model_index.json'
    if not path.is_file():
        raise FileNotFoundError(
            f'{path} does not exist: a pipeline is a local folder with that file, written by '
            'tools/finalize_checkpoint.py --pipeline FOLDER or save_pretrained'
        )
    try:
        index = json.loads(path.read_text())
        parts = {k: tuple(v) for k, v in index.items() if not k.startswith('_')}
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f'{path} cannot be read: {error}') from error
    if index.get('_class_name') != 'DiffusionDetPipeline' or parts.pop('model', None) != _MODEL:
        raise ValueError(f'{path} is not of a DiffusionDetPipeline: {index}')
    found: Dict[str, Optional[SchedulerMixin]] = dict(label_scheduler=None)
    for name, value in parts.items():
        if name == 'label_scheduler' and value == (None, None):
            continue
        if value not in _SCHEDULERS.get(name, {}):
            raise ValueError(f'{path} is not of a DiffusionDetPipeline: {name} is {list(value)}')
        config = folder / name / 'scheduler_config.json'
        if not config.is_file():
            raise FileNotFoundError(f'{config} does not exist')
        found[name] = _SCHEDULERS[name][value].from_pretrained(str(config.parent))
    if 'scheduler' not in found:
        raise ValueError(f'{path} names no scheduler')
    return found
