"""Detectron2's YAML files, with the files that they are based on."""

import ast
from pathlib import Path
from typing import Any, Dict, Tuple

import yaml

from ..engine.download import check_is_file


class _Loader(yaml.SafeLoader):
    """Reads plain values; a key that stands twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Dict[Any, Any]:
        """Construct a mapping, whose keys are compared first."""
        seen = set()
        for key_node, _ in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is not None and key != '<<' and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f'{key} stands twice', key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, above: Tuple[Path, ...] = ()) -> Dict[str, Any]:
    """Values of a Detectron2 YAML and its ``_BASE_`` files, by dotted name.

    ``above`` are the files that it is a base of, whose values replace its own.
    ValueError if a file is not a YAML mapping, has a key twice, or is its own base.
    """
    path = path.expanduser()
    if path in above:
        raise ValueError(f'{path} is its own _BASE_')
    check_is_file(path, f'{path}{f" (_BASE_ of {above[-1]})" if above else ""}')
    try:
        content = yaml.load(path.read_text(encoding='utf-8'), _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, 'problem_mark', None)
        where = f', line {mark.line + 1}' if mark else ''
        problem = getattr(error, 'problem', None) or str(error).splitlines()[0]
        raise ValueError(f'{path}{where} is not YAML of plain values: {problem}') from error
    except UnicodeDecodeError as error:
        raise ValueError(f'{path} is not text in UTF-8 ({error})') from error
    except RecursionError as error:
        raise ValueError(f'{path} is nested too deep') from error
    if not isinstance(content, dict):
        raise ValueError(f'{path} is not a mapping of options')
    values: Dict[str, Any] = {}
    bases = content.pop('_BASE_', [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise ValueError(f'{path}: _BASE_ must be a file or a list of them, got {bases!r}')
    for base in bases:
        values.update(read_yaml(path.parent / base, (*above, path)))
    try:
        values.update(_flatten(content))
    except RecursionError as error:
        raise ValueError(f'{path}: a mapping is inside of itself') from error
    return values


def _flatten(content: Dict[str, Any], prefix: str = '') -> Dict[str, Any]:
    flat = {}
    for key, value in content.items():
        if isinstance(value, dict):
            flat.update(_flatten(value, f'{prefix}{key}.'))
        else:
            flat[f'{prefix}{key}'] = _literal(value)
    return flat


def _literal(value: Any) -> Any:
    """A value in which a string may be a Python literal, e.g. "(7, 9)"."""
    try:
        return ast.literal_eval(value) if isinstance(value, str) else value
    except (ValueError, SyntaxError):
        return value
