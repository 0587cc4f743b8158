"""Parts of a config against the constructors that they will be given to."""

import inspect
import re
import typing
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple, Union

import mmengine.registry
from mmengine.registry import Registry

from .. import registry as ours
from ..errors import nearest
from .keys import TOP_LEVEL
from .value_types import describe, fits

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
# what has no annotation, and a number or a sequence as default
_NO_TEXT = Union[bool, int, float, list, tuple, dict, None]


class Part(NamedTuple):
    """A dict of the config that has a type."""

    path: str
    key: str
    cfg: dict


def parts(value: Any, path: str = '', key: str = '') -> Iterator[Part]:
    """All parts of a config, from the outside in.

    Args:
        value (Any): The config as plain data.
        path (str): Where it stands.
        key (str): Its name.
    """
    if isinstance(value, dict):
        if 'type' in value:
            yield Part(path, key, value)
            if value['type'] in ('Albu', 'mmdet.Albu'):
                return
        for name, item in value.items():
            inside = path or name in TOP_LEVEL
            if inside and not (path and _FOREIGN.search(str(name))):
                yield from parts(item, f'{path}.{name}' if path else str(name), str(name))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from parts(item, f'{path}.{index}', key)


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
                elif hint is Any and type(p.default) in (bool, int, float, tuple, list):
                    hint = _NO_TEXT
                arguments.setdefault(p.name, hint)
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return arguments, True
    return arguments, False


def check_part(part: Part) -> None:
    """Raise ValueError at an unknown class or option, or a value of another type.

    A name may be in several registries: then one of the classes must fit.

    Args:
        part (Part): With its place in the config.
    """
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
                    f'{part.path}.{key} of {kind} must be {_describe_hint(arguments[key])}, '
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


def _describe_hint(hint: Any) -> str:
    """An annotation as text."""
    text = hint.__name__ if inspect.isclass(hint) else str(hint)
    return re.sub(r'\b(typing|collections\.abc|mmengine\.config\.config)\.', '', text)
