"""What detecting needs of a config, as data that can be stored and trusted.

A config file of MMEngine is a program, and a registry of MMEngine imports what
a ``type`` names. What comes with a checkpoint is a stranger's: it is parsed,
and its types must be classes of a detector that are registered.
"""

import inspect
from dataclasses import asdict, dataclass
from typing import Any, Dict, Iterator, List, Mapping, Optional

from mmengine.config import Config
from mmengine.registry import Registry

from ..config.text import parse_config_text
from ..registry import BOX_SCHEDULERS, DATASETS, LABEL_SCHEDULERS, MODELS, TASK_UTILS, TRANSFORMS
from ..utils import leaf_datasets

_REGISTRIES = (MODELS, TASK_UTILS, TRANSFORMS, BOX_SCHEDULERS, LABEL_SCHEDULERS)
_LIBRARIES = ('mmdet', 'mmcv', 'mmengine', 'torch', 'diffusers')
# of the libraries: no detectors, some of which read configs or download
_ROOMS = (
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
# a ``type`` that is no class: of NMS, of time schedules, of MMDetection's RoIs
_WORDS = ('nms', 'soft_nms', 'constant', 'linear', 'threshold', 'RoIAlign')


@dataclass
class InferenceConfig:
    """What detecting needs of a config.

    Args:
        model (dict): Of the detector, without where weights came from.
        test_pipeline (list[dict]): From an image file to the detector's input.
        classes (list[str]): Their names, by label.
        precision (str): ``fp32``, ``bf16`` or ``fp16``.
    """

    model: Dict[str, Any]
    test_pipeline: List[Dict[str, Any]]
    classes: List[str]
    precision: str = 'fp32'

    def to_dict(self) -> Dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_config(
        cls, cfg: Mapping[str, Any], dataset_meta: Optional[Mapping[str, Any]] = None
    ) -> 'InferenceConfig':
        """Take what is needed out of a whole config.

        Args:
            cfg (Mapping): The config, resolved.
            dataset_meta (Mapping, optional): Of the checkpoint; its
                ``classes`` come before those of the test data.

        Raises:
            ValueError: If there is no DiffusionDet, no test pipeline, or
                other than ``num_classes`` names of classes.
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
        """Take it from what a checkpoint says of itself; nothing is executed.

        Args:
            meta (Mapping): ``meta`` of a checkpoint of a training, or of
                tools/finalize_checkpoint.py.

        Raises:
            ValueError: If there is no config, or see :func:`check_types`.
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
    """A copy of plain dicts and lists, without ``init_cfg``.

    All weights come from the checkpoint, nothing is looked up or downloaded.
    """
    if isinstance(node, Mapping):
        return {str(k): plain(v) for k, v in node.items() if k != 'init_cfg'}
    if isinstance(node, (list, tuple)):
        return [plain(v) for v in node]
    return node


def check_types(node: Any) -> None:
    """Refuse a config that names anything but registered parts of a detector.

    MMEngine imports and calls whatever a ``type`` names, for example
    ``subprocess.Popen``. Classes that a package of the user has registered
    are the user's own and pass.

    Args:
        node (Any): A config, or a part of it.

    Raises:
        ValueError: If a ``type`` is not such a class; names it.
    """
    if isinstance(node, Mapping):
        name = node.get('type')
        if name is not None and name not in _WORDS and not _is_part(name):
            raise ValueError(
                f'its config names type={name!r}, which is no registered part of a detector and '
                'could run anything. If you trust it, give the config file before the '
                'checkpoint; a class of your own must be registered before (import its package)'
            )
        for value in node.values():
            check_types(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            check_types(value)


def _is_part(name: Any) -> bool:
    if not isinstance(name, str):
        return False
    scope, _, key = name.rpartition('.')
    if scope not in ('', 'mmdiffdet', 'mmdet', 'mmcv', 'mmengine'):
        return False
    found = [
        r.module_dict[key] for first in _REGISTRIES for r in _chain(first) if key in r.module_dict
    ]
    return bool(found) and all(_is_allowed(part) for part in found)


def _chain(registry: Registry) -> Iterator[Registry]:
    """A registry and its parents, filled."""
    while registry is not None:
        registry.import_from_location()
        yield registry
        registry = registry.parent


def _is_allowed(part: Any) -> bool:
    if not inspect.isclass(part) and not inspect.isfunction(part):
        return False
    module = f'{part.__module__}.'
    return module.split('.')[0] not in _LIBRARIES or module.startswith(_ROOMS)


def _classes(
    dataset_meta: Optional[Mapping[str, Any]], dataset: Mapping[str, Any], num_classes: int
) -> List[str]:
    found = (dataset_meta or {}).get('classes') or (dataset.get('metainfo') or {}).get('classes')
    if not found:
        kind = str(dataset.get('type')).split('.')[-1]
        known = [r.module_dict[kind] for r in _chain(DATASETS) if kind in r.module_dict]
        found = getattr(known[0], 'METAINFO', {}).get('classes', ()) if known else ()
    found = [found] if isinstance(found, str) else [str(name) for name in found]
    if len(found) != num_classes:
        raise ValueError(
            f'the model has {num_classes} classes, {len(found)} names are known: {found[:5]}'
        )
    return found
