"""Read the text of a dumped config without executing it."""

import ast
from typing import Any, Dict, Optional


def parse_config_text(text: str) -> Optional[Dict[str, Any]]:
    """Read what ``Config.pretty_text`` wrote, such as ``meta['cfg']`` of a checkpoint.

    MMEngine would execute the text. Here assignments of plain values, of lists and of
    ``dict(...)`` are read; tuples become lists. None if the text is anything else.
    """
    try:
        return {node.targets[0].id: _value(node.value) for node in ast.parse(text).body} or None
    except (SyntaxError, AttributeError, ValueError, TypeError, RecursionError):
        return None


def _value(node: ast.AST) -> Any:
    if isinstance(node, ast.Call):
        if node.func.id != 'dict' or node.args:
            raise ValueError('not a dumped config')
        found: Dict[str, Any] = {}
        for keyword in node.keywords:
            value = _value(keyword.value)
            found.update(value if keyword.arg is None else {keyword.arg: value})
        return found
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        return {ast.literal_eval(k): _value(v) for k, v in zip(node.keys, node.values)}
    return ast.literal_eval(node)
