"""What a config says, before anything is built: names, types, ranges.

MMEngine builds a part when it is needed and never looks at a key that nothing
asks for. Here the whole config is held against the constructors that will be
called: an argument that does not exist, a value of another type than the
constructor's annotation, a number outside its range.
"""

import inspect
import logging
import math
import re
import typing
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple, Union

import mmengine.registry
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import DefaultScope, Registry
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from .. import registry as ours
from ..errors import nearest
from .value_types import describe, fits

# read by MMEngine's runner, by MMDetection's tools or by ours
_TOP_LEVEL = {
    *inspect.signature(Runner.__init__).parameters,
    *('model_wrapper_cfg', 'sync_bn', 'find_unused_parameters', 'activation_checkpointing'),
    *('efficient_conv_bn_eval', 'compile', 'runner_type', 'strategy', 'custom_imports'),
    *('tta_model', 'tta_pipeline', 'part', 'env_cfg', 'default_scope'),
    *('detect_anomaly', 'experiment_name'),
} - {'self', 'cfg'}
# MMDetection 2's names -> MMDetection 3's
_OLD = {
    'data': 'train_dataloader, val_dataloader and test_dataloader',
    'optimizer': 'optim_wrapper.optimizer',
    'optimizer_config': 'optim_wrapper.clip_grad',
    'lr_config': 'param_scheduler',
    'momentum_config': 'param_scheduler',
    'runner': 'train_cfg',
    'total_epochs': 'train_cfg.max_epochs',
    'evaluation': 'val_evaluator and train_cfg.val_interval',
    'checkpoint_config': 'default_hooks.checkpoint',
    'log_config': 'default_hooks.logger and visualizer.vis_backends',
    'workflow': 'train_cfg and val_cfg',
    'img_norm_cfg': 'model.data_preprocessor',
    'resume_from': 'resume=True with load_from',
    'dist_params': 'env_cfg.dist_cfg',
    'opencv_num_threads': 'env_cfg.mp_cfg.opencv_num_threads',
    'mp_start_method': 'env_cfg.mp_cfg.mp_start_method',
    'fp16': 'optim_wrapper.type (tools/train.py --amp)',
    'gpu_ids': 'the launcher',
}
# dicts that others read, who may have further keys: what is nearly one of these is misspelt
_OPEN = {
    'metainfo': ('classes', 'palette'),
    'filter_cfg': ('filter_empty_gt', 'min_size'),
    'data_prefix': ('img', 'img_path', 'seg', 'ann'),
}
# variables of nearly every config
_VARIABLES = {
    *('train_pipeline', 'val_pipeline', 'test_pipeline', 'backend_args', 'metainfo', 'classes'),
    *('dataset_type', 'data_root', 'max_iters', 'max_epochs', 'num_classes', 'num_proposals'),
}
# dicts without a type, and whose arguments they are
_LOADER = {'dataset', 'sampler', 'batch_sampler', 'num_batch_per_epoch'} | set(
    inspect.signature(DataLoader.__init__).parameters
) - {'self'}
_PLAIN: Dict[str, set] = {
    'train_dataloader': _LOADER,
    'val_dataloader': _LOADER,
    'test_dataloader': _LOADER,
    'env_cfg': {'cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'},
    'env_cfg.mp_cfg': {'mp_start_method', 'opencv_num_threads'},
    'randomness': {'seed', 'diff_rank_seed', 'deterministic'},
    'auto_scale_lr': {'enable', 'base_batch_size'},
    'custom_imports': {'imports', 'allow_failed_imports'},
    'optim_wrapper.clip_grad': {'type', 'max_norm', 'norm_type', 'error_if_nonfinite', 'foreach'}
    | {'clip_value'},
}
# taken out by whoever builds the part
_TAKEN = {
    'default_hooks': {'priority'},
    'custom_hooks': {'priority'},
    'optim_wrapper': {'constructor', 'paramwise_cfg', 'optimizer', 'type'},
    'param_scheduler': {'convert_to_iter_based'},
    'train_cfg': {'by_epoch'},
    'visualizer': {'name', 'save_dir'},
}
# whose inner dicts are of other packages, or for arguments of many classes
_FOREIGN = re.compile(r'_cfg$|_kwargs$|^(dcn|plugins|backend_args|init_kwargs|loss_scale|meta)$')
_DICTS = {
    *('train_cfg', 'val_cfg', 'test_cfg', 'optim_wrapper', 'default_hooks', 'env_cfg', 'strategy'),
    *('randomness', 'auto_scale_lr', 'train_dataloader', 'val_dataloader', 'test_dataloader'),
    *('visualizer', 'log_processor', 'model', 'custom_imports', 'tta_model', 'model_wrapper_cfg'),
}
_LISTS = {'custom_hooks', 'tta_pipeline'}
_EITHER = {'param_scheduler', 'val_evaluator', 'test_evaluator'}
# what has no annotation and a number as default
_NO_TEXT = Union[bool, int, float, list, tuple, dict, None]
_FRACTION = re.compile(r'^(score|iou|nms|conf|pos_iou|neg_iou|min_iou|renewal)_thrs?(eshold)?s?$')
_POSITIVE = {'std', 'batch_size', 'base_batch_size', 'window_size'}
_NOT_NEGATIVE = {'lr', 'weight_decay', 'num_workers', 'max_per_img', 'loss_weight', 'interval'}
_WHOLE = {'seed', 'eval_seed', 'base_batch_size', 'opencv_num_threads', 'resource_limit'}
_TEXT = {'constructor', 'img_path', 'mp_start_method'}
_FINITE = {'mean', 'scale', 'momentum', 'gamma', 'alpha', 'beta', 'power'}
_NUMBERS = _POSITIVE | _NOT_NEGATIVE | {'eta', 'num_proposals', 'num_classes', 'num_stages'}


class _Part(NamedTuple):
    """A dict of the config that has a type."""

    path: str
    key: str
    cfg: dict


def check_config(cfg: Config, options: Optional[dict] = None) -> None:
    """Find what would do nothing, or fail late and unclearly.

    Args:
        cfg (Config): As read, before anything is built.
        options (dict, optional): Of ``--cfg-options``, already in it: a new
            name at the top of the config is then an error.

    Raises:
        ValueError: Names the key, its value and what was expected.
    """
    content = cfg._cfg_dict.to_dict()
    _check_top_level(cfg, content, options or {})
    for path, key, value in _leaves(content):
        _check_number(path, key, value)
        if isinstance(value, str) and '{{' in value:
            raise ValueError(
                f'{path} is {value!r}: MMEngine replaces {{{{$NAME:default}}}} and '
                '{{_base_.name}} in config files, and nothing else'
            )
    for path, key, value in _leaves(content, inner=True):
        _check_open(path, key, value)
    scope = DefaultScope.get_current_instance()
    name = cfg.get('default_scope') or 'mmengine'
    if not isinstance(name, str):
        raise ValueError(f'default_scope must be text, got {describe(name)}')
    with DefaultScope.overwrite_default_scope(name if scope is None else None):
        for path, known in _PLAIN.items():
            _check_plain(content, path, known)
        for part in _parts(content):
            _check_part(part)
    hooks = content.get('default_hooks') or {}
    kinds: Dict[Any, str] = {}
    for key, hook in hooks.items():
        if hook is not None and not (isinstance(hook, dict) and 'type' in hook):
            others = [k for k, v in hooks.items() if isinstance(v, dict) and 'type' in v]
            raise ValueError(
                f'default_hooks.{key} has no type{nearest(key, others)}: a hook is '
                f"dict(type='...', ...), or None to leave it out; got {describe(hook)}"
            )
        if hook is not None and kinds.setdefault(str(hook['type']), key) != key:
            print_log(
                f'default_hooks.{key} is a second {hook["type"]}, after '
                f'default_hooks.{kinds[str(hook["type"])]}: both act',
                'current',
                logging.WARNING,
            )


def _check_top_level(cfg: Config, content: dict, options: dict) -> None:
    for key, value in content.items():
        if value is None:
            continue
        if (key in _DICTS and not isinstance(value, dict)) or (
            key in _LISTS and not isinstance(value, (list, tuple))
        ):
            kind = 'dict(...)' if key in _DICTS else 'a list'
            raise ValueError(f'{key} of the config must be {kind}, got {describe(value)}')
        if key in _EITHER and not isinstance(value, (dict, list, tuple)):
            raise ValueError(
                f'{key} of the config must be dict(...) or a list of them, got {describe(value)}'
            )
    if not isinstance(content.get('model'), dict):
        raise ValueError(
            f'{cfg.filename} has no model{nearest("model", content)}; a config of a model and its '
            'data starts with _base_, see configs/'
        )
    _check_simple(content)
    code = _code(cfg.text or '')
    unread: List[str] = []
    for key in content:
        given = any(k.split('.')[0] == key for k in options)
        # anywhere but where it is set
        used = re.search(rf'(?<![\w.])(_base_\.)?{re.escape(key)}\b(?!\s*=[^=])', code) is not None
        if key in _TOP_LEVEL or (used and not given):
            continue
        if key in _OLD and not used:
            raise ValueError(
                f'{key} is a name of MMDetection 2 and would do nothing; it is {_OLD[key]} now'
            )
        if given:
            raise ValueError(
                f'--cfg-options {key}: '
                + (
                    'the config file has used this variable already, so that it would change '
                    'nothing; give the key where the value is needed, e.g. '
                    f'{_where(content, key)}'
                    if used
                    else f'the config has no such key, nothing reads it{nearest(key, _TOP_LEVEL)}'
                )
            )
        # a config that was written out has its variables once more
        elif key not in _VARIABLES and not any(
            value == content[key] for _, _, value in _leaves(content, key, True)
        ):
            unread.append(f'{key}{nearest(key, _TOP_LEVEL)}')
    if unread:
        print_log(f'{cfg.filename}: nothing reads {", ".join(unread)}', 'current', logging.WARNING)


def _code(text: str) -> str:
    """The text of config files without file names, comments and plain strings."""
    lines = [line for line in text.splitlines() if not re.fullmatch(r'\S+\.(py|json|ya?ml)', line)]
    strings = r'""".*?"""|\'\'\'.*?\'\'\'|"[^"\n]*"|\'[^\'\n]*\'|#[^\n]*'
    return re.sub(
        strings, lambda m: m[0] if '{{' in m[0] else '""', '\n'.join(lines), flags=re.DOTALL
    )


def _check_simple(content: dict) -> None:
    for key, kinds in dict(
        load_from=str, work_dir=str, resume=bool, launcher=str, log_level=(str, int),
        experiment_name=str, find_unused_parameters=bool,
    ).items():  # fmt: skip
        value = content.get(key)
        if value is not None and not isinstance(value, kinds):
            expected = 'True or False' if kinds is bool else 'text'
            raise ValueError(f'{key} of the config must be {expected}, got {describe(value)}')


def _where(content: dict, key: str) -> str:
    for path, _, value in _leaves(content, key, True):
        if value == content[key]:
            return path
    return 'model.test_cfg.eval_seed=1'


def _leaves(
    value: Any, skip: str = '', inner: bool = False, path: str = ''
) -> Iterator[Tuple[str, str, Any]]:
    """Paths, keys and values; of lists of plain values the list."""
    if isinstance(value, dict):
        for key, item in value.items():
            if path or key != skip:
                here = f'{path}.{key}' if path else str(key)
                if inner or not isinstance(item, dict):
                    yield here, str(key), item
                yield from _leaves(item, skip, inner, here)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _leaves(item, skip, inner, f'{path}.{index}')


def _numbers(value: Any) -> Iterable[float]:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _numbers(item)


def _must_be_finite(path: str, key: str) -> bool:
    # ranges of a model may be open, the largest gradient is a norm
    top = path.split('.')[0]
    return key not in ('max_norm', 'norm_type') and (
        top != 'model' or key in _NUMBERS or key in _FINITE
    )


def _check_number(path: str, key: str, value: Any) -> None:
    if key in _WHOLE and value is not None and type(value) is not int:
        raise ValueError(f'{path} must be a whole number, got {describe(value)}')
    if key in _TEXT and '.' in path and not isinstance(value, str):
        raise ValueError(f'{path} must be text, got {describe(value)}')
    if key in _NUMBERS and isinstance(value, (str, dict)):
        raise ValueError(f'{path} must be a number, got {describe(value)}')
    for number in _numbers(value):
        wrong = ''
        if math.isnan(number) or (math.isinf(number) and _must_be_finite(path, key)):
            wrong = 'a finite number'
        elif _FRACTION.match(key) and not 0 <= number <= 1:
            wrong = 'from 0 to 1'
        elif key == 'prob' and not 0 <= number <= 1:
            wrong = 'from 0 to 1'
        elif key in _POSITIVE and number <= 0:
            wrong = 'greater than 0'
        elif key in _NOT_NEGATIVE and number < 0 and not (key == 'interval' and number == -1):
            wrong = 'at least 0'
        elif isinstance(number, int) and abs(number) >= 2**63:
            wrong = 'below 2 ** 63'
        if wrong:
            raise ValueError(f'{path} must be {wrong}, got {value}')


def _check_open(path: str, key: str, value: Any) -> None:
    if key not in _OPEN or not isinstance(value, dict):
        return
    for name, item in value.items():
        if name not in _OPEN[key] and nearest(name, _OPEN[key]):
            raise ValueError(f'{path}.{name}: there is no such option{nearest(name, _OPEN[key])}')
        if key == 'data_prefix' and not isinstance(item, str):
            raise ValueError(f'{path}.{name} must be text, got {describe(item)}')


def _at(content: dict, path: str) -> Any:
    for key in path.split('.'):
        if not isinstance(content, dict):
            return None
        content = content.get(key)
    return content


def _check_plain(content: dict, path: str, known: set) -> None:
    found = _at(content, path)
    if found is None:
        return
    if not isinstance(found, dict):
        raise ValueError(f'{path} of the config must be dict(...), got {describe(found)}')
    for key in found:
        if key not in known and not str(key).startswith('_'):
            raise ValueError(f'{path}.{key}: there is no such option{nearest(key, known)}')
    if known is _LOADER:
        for key, kind in (('batch_size', int), ('num_workers', int), ('drop_last', bool)):
            value = found.get(key)
            if value is not None and type(value) is not kind:
                raise ValueError(
                    f'{path}.{key} must be {"a whole number" if kind is int else "True or False"}, '
                    f'got {describe(value)}'
                )
        for key in ('dataset', 'sampler', 'batch_sampler'):
            if key in found and found[key] is not None and not isinstance(found[key], dict):
                raise ValueError(f'{path}.{key} must be dict(...), got {describe(found[key])}')
        if 'persistent_workers' in found and type(found['persistent_workers']) is not bool:
            raise ValueError(
                f'{path}.persistent_workers must be True or False, '
                f'got {describe(found["persistent_workers"])}'
            )


def _parts(value: Any, path: str = '', key: str = '') -> Iterator[_Part]:
    if isinstance(value, dict):
        if 'type' in value:
            yield _Part(path, key, value)
            if value['type'] in ('Albu', 'mmdet.Albu'):
                return
        for name, item in value.items():
            inside = path or name in _TOP_LEVEL
            if inside and not (path and _FOREIGN.search(str(name))):
                yield from _parts(item, f'{path}.{name}' if path else str(name), str(name))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _parts(item, f'{path}.{index}', key)


def _registries() -> List[Registry]:
    return [v for v in vars(ours).values() if isinstance(v, Registry)] + [
        mmengine.registry.FUNCTIONS,
        mmengine.registry.OPTIM_WRAPPERS,
    ]


def _classes(kind: Any) -> List[Any]:
    """What the name may mean; the dict's place alone would tell which."""
    if not isinstance(kind, str):
        return [kind] if callable(kind) else []
    found = []
    for registry in _registries():
        cls = registry.get(kind)
        if cls is not None and cls not in found:
            found.append(cls)
    return found


def _arguments(cls: Any) -> Tuple[Dict[str, Any], bool]:
    """Names and annotations of arguments, and whether these are all."""
    owners = [
        vars(c)['__init__']
        for c in (cls.__mro__ if inspect.isclass(cls) else ())
        if '__init__' in vars(c) and c is not object
    ] or [cls]
    arguments: Dict[str, Any] = {}
    for function in owners:
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):
            return arguments, False
        try:
            hints = typing.get_type_hints(inspect.unwrap(function))
        except Exception:  # of names that are only there for type checkers
            hints = {}
        for p in parameters:
            if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
                hint = hints.get(p.name, Any)
                if p.default is None:
                    hint = Optional[hint]
                elif hint is Any and type(p.default) in (bool, int, float):
                    hint = _NO_TEXT
                arguments.setdefault(p.name, hint)
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return arguments, True
    return arguments, False


def _check_part(part: _Part) -> None:
    kind = part.cfg['type']
    top = part.path.split('.')[0]
    if not isinstance(kind, str) and not callable(kind):
        raise ValueError(f'{part.path}.type must be the name of a class, got {describe(kind)}')
    classes = _classes(kind)
    if not classes:
        names = [n for r in _registries() for n in _names(r)]
        near = nearest(str(kind).rpartition('.')[2], names)
        if near and top != 'model':  # a part of the model is built whatever is done
            raise ValueError(f'{part.path}.type: there is no {kind!r}{near}')
        return
    taken = {'type', '_scope_', '_delete_', *_TAKEN.get(top, ())}
    problems = []
    for cls in classes:
        arguments, closed = _arguments(cls)
        problem = ''
        for key, value in part.cfg.items():
            if key in taken:
                continue
            if key not in arguments:
                # of a model, its constructor tells by itself, and owners take keys out
                near = nearest(key, arguments, 0.85)
                if (closed or near) and top != 'model':
                    problem = (
                        f'{part.path}.{key}: {kind} has no such option{nearest(key, arguments)}'
                    )
            elif key != 'loss_scale' and not fits(value, arguments[key], strict=_is_ours(cls)):
                problem = (
                    f'{part.path}.{key} of {kind} must be {describe_hint(arguments[key])}, '
                    f'got {describe(value)}'
                )
            if problem:
                break
        problems.append(problem)
    if all(problems):
        raise ValueError(problems[0])


def _is_ours(cls: Any) -> bool:
    return getattr(cls, '__module__', '').startswith('mmdiffdet.')


def _names(registry: Optional[Registry]) -> Iterator[str]:
    while registry is not None:
        yield from registry.module_dict
        registry = registry.parent


def describe_hint(hint: Any) -> str:
    """An annotation as text."""
    text = hint.__name__ if inspect.isclass(hint) else str(hint)
    return re.sub(r'\b(typing|collections\.abc|mmengine\.config\.config)\.', '', text)
