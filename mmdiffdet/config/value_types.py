"""Compare values of a config with type annotations."""

import collections.abc
import inspect
import numbers
import types
import typing
from typing import Any, Iterator, Tuple

_SIMPLE = (bool, int, float, str)


def fits(value: Any, hint: Any, strict: bool = True) -> bool:
    """Whether a value may stand where the annotation is.

    Lists and tuples stand for each other, as ``--cfg-options`` and JSON have
    lists alone, and dicts for objects that are built from them. What is not
    understood fits.

    Args:
        value (Any): Plain data.
        hint (Any): A type, or a form of ``typing``.
        strict (bool): False for annotations of other packages, which say
            ``int`` of fractions, ``dict`` of lists of dicts and leave out
            None for objects: then only the kind is compared. Defaults to True.
    """
    if not strict and value is None and hint not in _SIMPLE:
        return True
    if hint is Any or isinstance(hint, (str, typing.TypeVar, typing.ForwardRef)):
        return True
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, h, strict) for h in inner)
    if origin is typing.Literal:
        return value in inner
    if hint is type(None) or hint is None:
        return value is None
    if hint is bool:
        return isinstance(value, bool) or (isinstance(value, int) and value in (0, 1))
    if hint is int:
        # 2.0 is a mistake in range() and in shapes
        return isinstance(value, int if strict else (int, float)) and not isinstance(value, bool)
    if hint is float or (inspect.isclass(hint) and issubclass(hint, numbers.Number)):
        if not strict and isinstance(value, (list, tuple)):
            return True  # one for each channel
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is str:
        return isinstance(value, str)
    base = origin or hint
    if not inspect.isclass(base):
        return True
    if issubclass(base, collections.abc.Mapping):
        if not strict and isinstance(value, (list, tuple)):
            return all(isinstance(v, collections.abc.Mapping) for v in value)
        return isinstance(value, collections.abc.Mapping)
    if base in (collections.abc.Callable, collections.abc.Iterator):
        return True
    if issubclass(base, collections.abc.Collection):
        if not isinstance(value, (list, tuple, set, range)):
            if not strict and isinstance(value, dict):
                return True
            # text is a sequence, but hardly of what was meant
            return not isinstance(value, (*_SIMPLE, dict)) and value is not None
        if not strict:
            return True
        items = [h for h in inner if h is not Ellipsis]
        if base is tuple and len(items) > 1:
            return len(value) == len(items) and all(map(fits, value, items))
        return all(fits(v, items[0]) for v in value) if len(items) == 1 else True
    # an object: given as it is, or by the dict that builds it
    return not isinstance(value, (*_SIMPLE, list, tuple)) and value is not None


def describe(value: Any) -> str:
    """The text of a value, at most 80 characters, with the name of its type."""
    text = repr(value)
    return f'{text if len(text) <= 80 else text[:77] + "..."} ({type(value).__name__})'


def leaves(
    value: Any, skip: str = '', inner: bool = False, path: str = ''
) -> Iterator[Tuple[str, str, Any]]:
    """Paths, keys and values of nested dicts and lists.

    The key ``skip`` at the top is left out; dicts are given too if ``inner``.
    """
    if isinstance(value, dict):
        for key, item in value.items():
            if path or key != skip:
                here = f'{path}.{key}' if path else str(key)
                if inner or not isinstance(item, dict):
                    yield here, str(key), item
                yield from leaves(item, skip, inner, here)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from leaves(item, skip, inner, f'{path}.{index}')
