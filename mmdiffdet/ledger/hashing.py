"""Hashes that make a result traceable."""

import hashlib
import json
import os
from typing import Any, Mapping, Union


def sha256_of_file(path: Union[str, os.PathLike]) -> str:
    """SHA-256 of a file's bytes, as hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_of_config(config: Mapping[str, Any]) -> str:
    """SHA-256 of a resolved config, independent of the order of its keys.

    Pass only what decides the result (model, test pipeline, test settings):
    seeds, paths and work directories would split one experiment into many.

    Args:
        config (Mapping): Of mappings, sequences, strings, numbers, booleans
            and None; tuples count as lists.

    Raises:
        TypeError: If a value is of another type.
    """
    text = json.dumps(config, sort_keys=True, separators=(',', ':'), default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(
        f'sha256_of_config: {value!r} is of type {type(value).__name__}; a '
        'resolved config holds only mappings, sequences, strings, numbers, '
        'booleans and None'
    )
