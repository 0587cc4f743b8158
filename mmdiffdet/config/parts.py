"""Check parts of a config against the constructors that they will be given to."""

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

# keys that are taken out before the constructor is called
_TAKEN = {
    'default_hooks': {'priority'},
    'custom_hooks': {'priority'},
    'optim_wrapper': {'constructor', 'paramwise_cfg', 'optimizer', 'type'},
    'param_scheduler': {'convert_to_iter_based'},
    'train_cfg': {'by_epoch'},
    'visualizer': {'name', 'save_dir'},
}
# dicts that are for other packages, or hold arguments of many classes
_FOREIGN = re.compile(r'_cfg$|_kwargs$|^(dcn|plugins|backend_args|init_kwargs|loss_scale|meta)$')
# of an argument without annotation whose default is a number or a sequence
_NO_TEXT = Union[bool, int, float, list, tuple, dict, None]


class Part(NamedTuple):
    """A dict of the config that has a type."""

    path: str
    key: str
    cfg: dict


def parts(value: Any, path: str = '', key: str = '') -> Iterator[Part]:
    """All parts of a config as plain data, from the outside in."""
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
    """The classes of all registries that a ``type`` may mean."""
    if not isinstance(kind, str):
        return [kind] if callable(kind) else []
    found = [registry.get(kind) for registry in _registries()]
    return [cls for cls in dict.fromkeys(found) if cls is not None]


def _arguments(cls: Any) -> Tuple[Dict[str, Any], bool]:
    """Names and annotations of a class's arguments, and whether these are all."""
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
    """
    kind = part.cfg['type']
    top = part.path.split('.')[0]
    if not isinstance(kind, str) and not callable(kind):
        raise ValueError(f'{part.path}.type must be the name of a class, got {describe(kind)}')
    classes = _classes(kind)
    if not classes:
        names = [n for first in _registries() for r in _chain(first) for n in r.module_dict]
        near = nearest(str(kind).rpartition('.')[2], names)
        if near and top != 'model':  # a part of the model is built whatever is done
            raise ValueError(f'{part.path}.type: there is no {kind!r}{near}')
        return
    taken = {'type', '_scope_', '_delete_', *_TAKEN.get(top, ())}
    problems = []
    for cls in classes:
        arguments, closed = _arguments(cls)
        ours = getattr(cls, '__module__', '').startswith('mmdiffdet.')
        for key, value in part.cfg.items():
            if key in taken:
                continue
            if key not in arguments:
                # a model's constructor tells by itself, and owners take keys out
                if (closed or nearest(key, arguments, 0.85)) and top != 'model':
                    near = nearest(key, arguments)
                    problems.append(f'{part.path}.{key}: {kind} has no such option{near}')
                    break
            elif key != 'loss_scale' and not fits(value, arguments[key], strict=ours):
                expected = _describe_hint(arguments[key])
                problems.append(
                    f'{part.path}.{key} of {kind} must be {expected}, got {describe(value)}'
                )
                break
    if len(problems) == len(classes):
        raise ValueError(problems[0])


def _chain(registry: Optional[Registry]) -> Iterator[Registry]:
    while registry is not None:
        yield registry
        registry = registry.parent


def _describe_hint(hint: Any) -> str:
    """An annotation as text."""
    text = hint.__name__ if inspect.isclass(hint) else str(hint)
    return re.sub(r'\b(typing|collections\.abc|mmengine\.config\.config)\.', '', text)
