"""What detecting needs of a config, as data that can be stored and trusted.

A config file of MMEngine is a program, and a registry of MMEngine imports what
a ``type`` names. What comes with a checkpoint is a stranger's: it is parsed,
and its types must be classes of a detector that are registered.
"""

import inspect
from dataclasses import asdict, dataclass
from typing import Any, Dict, List, Mapping, Optional

from mmengine.config import Config
from mmengine.registry import Registry

from ..config.text import parse_config_text
from ..registry import BOX_SCHEDULERS, DATASETS, LABEL_SCHEDULERS, MODELS, TASK_UTILS, TRANSFORMS
from ..utils import leaf_datasets

_REGISTRIES = (MODELS, TASK_UTILS, TRANSFORMS, BOX_SCHEDULERS, LABEL_SCHEDULERS)
_LIBRARIES = ('mmdet', 'mmcv', 'mmengine', 'torch', 'diffusers')
# modules of the libraries; no detectors, some of which read configs or download
_MODULES = (
    'mmdet.models.backbones.',
    'mmdet.models.data_preprocessors.',
    'mmdet.models.layers.',
    'mmdet.models.losses.',
    'mmdet.models.necks.',
    'mmdet.models.roi_heads.roi_extractors.',
    'mmdet.models.task_modules.',
    'mmdet.datasets.transforms.',
    'mmcv.cnn.',
    'mmcv.transforms.',
    'mmengine.model.',
    'torch.nn.',
    'diffusers.schedulers.',
)
# values of ``type`` that are no classes: NMS, time schedules, MMDetection's RoI layers
_WORDS = ('nms', 'soft_nms', 'constant', 'linear', 'threshold', 'RoIAlign')


@dataclass
class InferenceConfig:
    """The parts of a config that detecting needs.

    ``model`` is the detector's config without ``init_cfg``, ``test_pipeline`` leads
    from an image file to its input, ``classes`` are the names by label, and
    ``precision`` is ``fp32``, ``bf16`` or ``fp16``.
    """

    model: Dict[str, Any]
    test_pipeline: List[Dict[str, Any]]
    classes: List[str]
    precision: str = 'fp32'

    def to_dict(self) -> Dict[str, Any]:
        """The fields as plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_config(
        cls, cfg: Mapping[str, Any], dataset_meta: Optional[Mapping[str, Any]] = None
    ) -> 'InferenceConfig':
        """Take what is needed out of a whole, resolved config.

        The ``classes`` of a checkpoint's ``dataset_meta`` come before those of the
        test data. ValueError if there is no DiffusionDet, no test pipeline, or other
        than ``num_classes`` names of classes.
        """
        cfg = Config(plain(cfg.to_dict() if isinstance(cfg, Config) else cfg))
        model = cfg.get('model') or {}
        if str(model.get('type')).split('.')[-1] != 'DiffusionDet':
            raise ValueError(f'the model is {model.get("type")!r}, which is not a DiffusionDet')
        loader = cfg.get('test_dataloader') or {}
        datasets = leaf_datasets(loader.dataset) if 'dataset' in loader else []
        if not datasets or not datasets[0].get('pipeline'):
            raise ValueError('the config has no test_dataloader.dataset.pipeline')
        return cls(
            plain(model),
            plain(datasets[0].pipeline),
            _classes(dataset_meta, datasets[0], model.bbox_head.num_classes),
            (cfg.get('test_cfg') or {}).get('precision', 'fp32'),
        )

    @classmethod
    def from_checkpoint(cls, meta: Mapping[str, Any]) -> 'InferenceConfig':
        """Take it from ``meta`` of a checkpoint; nothing is executed.

        ValueError if there is no config, or see :func:`check_types`.
        """
        cfg = parse_config_text(str(meta.get('cfg') or ''))
        if cfg is None:
            raise ValueError(
                'carries no config: give one before it (CONFIG CHECKPOINT), or store one by '
                'tools/finalize_checkpoint.py --config CONFIG'
            )
        found = cls.from_config(cfg, meta.get('dataset_meta'))
        check_types(found.model)
        check_types(found.test_pipeline)
        return found


def plain(node: Any) -> Any:
    """A copy of plain dicts and lists, without ``init_cfg``: weights are the checkpoint's."""
    if isinstance(node, Mapping):
        return {str(k): plain(v) for k, v in node.items() if k != 'init_cfg'}
    if isinstance(node, (list, tuple)):
        return [plain(v) for v in node]
    return node


def check_types(node: Any) -> None:
    """Refuse a config that names anything but registered parts of a detector.

    MMEngine imports and calls whatever a ``type`` names, for example
    ``subprocess.Popen``. Classes that a package of the user has registered
    are the user's own and pass; ValueError names any other.
    """
    if isinstance(node, Mapping):
        name = node.get('type')
        if name is not None and name not in _WORDS and not _is_part(name):
            raise ValueError(
                f'its config names type={name!r}, which is no registered part of a detector and '
                'could run anything. If you trust it, give the config file before the '
                'checkpoint; a class of your own must be registered before (import its package)'
            )
        node = list(node.values())
    for value in node if isinstance(node, (list, tuple)) else ():
        check_types(value)


def _is_part(name: Any) -> bool:
    if not isinstance(name, str):
        return False
    scope, _, key = name.rpartition('.')
    if scope not in ('', 'mmdiffdet', 'mmdet', 'mmcv', 'mmengine'):
        return False
    found = _named(key, *_REGISTRIES)
    return bool(found) and all(map(_is_allowed, found))


def _named(key: str, *registries: Registry) -> List[Any]:
    """What registries and their parents, filled first, have under a name."""
    found = []
    for registry in registries:
        while registry is not None:
            registry.import_from_location()
            found += [registry.module_dict[key]] if key in registry.module_dict else []
            registry = registry.parent
    return found


def _is_allowed(part: Any) -> bool:
    if not inspect.isclass(part) and not inspect.isfunction(part):
        return False
    module = f'{part.__module__}.'
    return module.split('.')[0] not in _LIBRARIES or module.startswith(_MODULES)


def _classes(
    dataset_meta: Optional[Mapping[str, Any]], dataset: Mapping[str, Any], num_classes: int
) -> List[str]:
    found = (dataset_meta or {}).get('classes') or (dataset.get('metainfo') or {}).get('classes')
    if not found:
        kind = str(dataset.get('type')).split('.')[-1]
        known = _named(kind, DATASETS)
        found = getattr(known[0], 'METAINFO', {}).get('classes', ()) if known else ()
    found = [found] if isinstance(found, str) else [str(name) for name in found]
    if len(found) != num_classes:
        raise ValueError(
            f'the model has {num_classes} classes, {len(found)} names are known: {found[:5]}'
        )
    return found
