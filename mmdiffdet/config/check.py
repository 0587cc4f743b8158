"""Check a config's names, types and ranges before anything is built.

MMEngine builds a part when it is needed and never looks at a key that nothing
asks for. Here the whole config is compared with the constructors that will be
called: an argument that does not exist, a value of another type than the
constructor's annotation, and a number outside its range are errors.
"""

import inspect
import logging
from typing import Any, Dict, Optional

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import DefaultScope
from torch.utils.data import DataLoader

from ..errors import nearest
from .keys import check_top_level
from .numbers import check_number
from .parts import check_part, parts
from .value_types import describe, leaves

# dicts that may have further keys: what is nearly one of these names is misspelt
_OPEN = {
    'metainfo': ('classes', 'palette'),
    'filter_cfg': ('filter_empty_gt', 'min_size'),
    'data_prefix': ('img', 'img_path', 'seg', 'ann', 'anno'),
}
# dicts without a type: their keys are arguments of ...
_LOADER = {'dataset', 'sampler', 'batch_sampler', 'num_batch_per_epoch'} | set(
    inspect.signature(DataLoader.__init__).parameters
) - {'self'}
_PLAIN: Dict[str, Optional[set]] = {  # None: any key
    'train_dataloader': _LOADER,
    'val_dataloader': _LOADER,
    'test_dataloader': _LOADER,
    'env_cfg': {
        *('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'),
        'float32_matmul_precision',
    },
    'env_cfg.dist_cfg': None,
    'env_cfg.mp_cfg': {'mp_start_method', 'opencv_num_threads'},
    'randomness': {'seed', 'diff_rank_seed', 'deterministic'},
    'auto_scale_lr': {'enable', 'base_batch_size'},
    'custom_imports': {'imports', 'allow_failed_imports'},
    'optim_wrapper.clip_grad': {'type', 'max_norm', 'norm_type', 'error_if_nonfinite', 'foreach'}
    | {'clip_value'},
}


def check_config(cfg: Config, options: Optional[dict] = None) -> None:
    """Raise ValueError at what would do nothing, or fail late and unclearly.

    It names the key, its value and what was expected. ``options`` are those of
    ``--cfg-options``, which ``cfg`` has already: they may not add a name at its top.
    """
    content = cfg._cfg_dict.to_dict()
    check_top_level(cfg, content, options or {})
    for path, key, value in leaves(content):
        check_number(path, key, value)
        if isinstance(value, str) and '{{' in value:
            raise ValueError(
                f'{path} is {value!r}: MMEngine replaces {{{{$NAME:default}}}} and '
                '{{_base_.name}} in config files, and nothing else'
            )
    for path, key, value in leaves(content, inner=True):
        _check_open(path, key, value)
    optimizer = (content.get('optim_wrapper') or {}).get('optimizer')
    if optimizer is not None and not isinstance(optimizer, dict):
        raise ValueError(f'optim_wrapper.optimizer must be dict(...), got {describe(optimizer)}')
    scope = DefaultScope.get_current_instance()
    name = cfg.get('default_scope') or 'mmengine'
    if not isinstance(name, str):
        raise ValueError(f'default_scope must be text, got {describe(name)}')
    with DefaultScope.overwrite_default_scope(name if scope is None else None):
        for path, known in _PLAIN.items():
            _check_plain(content, path, known)
        for part in parts(content):
            check_part(part)
    hooks = {k: v for k, v in (content.get('default_hooks') or {}).items() if v is not None}
    kinds: Dict[str, str] = {}
    for key, hook in hooks.items():
        if not (isinstance(hook, dict) and 'type' in hook):
            others = [k for k, v in hooks.items() if isinstance(v, dict) and 'type' in v]
            raise ValueError(
                f'default_hooks.{key} has no type{nearest(key, others)}: a hook is '
                f"dict(type='...', ...), or None to leave it out; got {describe(hook)}"
            )
        kind = str(hook['type'])
        if kinds.setdefault(kind, key) != key:
            told = f'default_hooks.{key} is a second {kind}, after default_hooks.{kinds[kind]}'
            print_log(f'{told}: both act', 'current', logging.WARNING)


def _check_open(path: str, key: str, value: Any) -> None:
    if key not in _OPEN or not isinstance(value, dict):
        return
    for name, item in value.items():
        near = nearest(name, _OPEN[key], 0.85)
        if name not in _OPEN[key] and near:
            raise ValueError(f'{path}.{name}: there is no such option{near}')
        if key == 'data_prefix' and not isinstance(item, str):
            raise ValueError(f'{path}.{name} must be text, got {describe(item)}')


def _check_plain(content: dict, path: str, known: Optional[set]) -> None:
    found: Any = content
    for key in path.split('.'):
        found = found.get(key) if isinstance(found, dict) else None
    if found is None:
        return
    if not isinstance(found, dict):
        raise ValueError(f'{path} of the config must be dict(...), got {describe(found)}')
    for key in found if known is not None else ():
        if key not in known and not str(key).startswith('_'):
            raise ValueError(f'{path}.{key}: there is no such option{nearest(key, known)}')
    if known is _LOADER:
        for key in ('batch_size', 'num_workers'):
            value = found.get(key)
            if key in found and type(value) is not int and (value, key) != (None, 'batch_size'):
                raise ValueError(f'{path}.{key} must be a whole number, got {describe(value)}')
        for key in ('dataset', 'sampler', 'batch_sampler'):
            needed = key == 'dataset' and key in found
            if not isinstance(found.get(key), (dict, *(() if needed else (type(None),)))):
                raise ValueError(f'{path}.{key} must be dict(...), got {describe(found[key])}')
