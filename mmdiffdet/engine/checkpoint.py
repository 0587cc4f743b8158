"""Reading checkpoints without running what is in them.

Importing this module makes mmengine read local files and downloads of every
scheme (``https://``, ``torchvision://``, ``openmmlab://``, ``s3://``, ...)
through it: mmengine itself falls back to full unpickling.
"""

import json
import os
import pickle
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Optional, Union

import numpy as np
import safetensors.torch
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from ..ledger import sha256_of_file
from .download import check_is_file, download, is_address
from .trained_process import check_trained_process


def _getattr_of_history(obj: Any, name: str) -> Any:
    """``getattr`` for a history buffer's own methods only."""
    if obj is not HistoryBuffer and not isinstance(obj, HistoryBuffer):
        raise pickle.UnpicklingError(f'getattr of {type(obj).__name__}')
    return getattr(HistoryBuffer, name)


# what mmengine's checkpoints hold besides tensors and plain values
_SAFE_GLOBALS = [
    HistoryBuffer,
    (_getattr_of_history, 'builtins.getattr'),
    (_getattr_of_history, '__builtin__.getattr'),
    slice,
    np.ndarray,
    np.dtype,
    np._core.multiarray._reconstruct,
    np._core.multiarray.scalar,
    *{type(np.dtype(t)) for t in (np.uint32, np.int64, np.float32, np.float64)},
]


@contextmanager
def _weights_only(what: object) -> Iterator[None]:
    """Allow what mmengine saves besides tensors; errors name ``what``."""
    try:
        with torch.serialization.safe_globals(_SAFE_GLOBALS):
            yield
    except pickle.UnpicklingError as error:
        # less what PyTorch advises, which is to execute what is in the file
        raise ValueError(
            f'checkpoint {what} holds more than weights and was not opened. A file of '
            'Detectron2 goes through tools/convert_checkpoint.py; of anything else, do not '
            'trust it'
        ) from error
    except (
        *(RuntimeError, EOFError, KeyError, IndexError, AttributeError, TypeError, OSError),
        *(safetensors.SafetensorError, json.JSONDecodeError, UnicodeDecodeError, AssertionError),
    ) as error:
        raise ValueError(
            f'checkpoint {what} cannot be read: it is damaged or not a checkpoint ({error})'
        ) from error


def load_checkpoint_file(
    filename: Union[str, os.PathLike], map_location: Optional[Any] = 'cpu'
) -> Dict[str, Any]:
    """Read a ``.pth`` or ``.safetensors`` file.

    The latter gives ``state_dict`` and ``meta``, like a checkpoint.

    Args:
        filename (str | os.PathLike): A path or an address.
        map_location (Any, optional): As of ``torch.load``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, no regular file, not of a checkpoint's
            form, or holds objects other than tensors and plain values.
    """
    path = local_checkpoint(filename)
    with _weights_only(filename):
        if path.suffix == '.safetensors':
            device = map_location if isinstance(map_location, str) else 'cpu'
            with safetensors.safe_open(path, 'pt', device) as file:
                meta = json.loads((file.metadata() or {}).get('meta', '{}'))
                content = dict(meta=meta, state_dict={k: file.get_tensor(k) for k in file.keys()})
        else:
            with open(path, 'rb') as file:
                start = file.read(2)
            # a zip archive, or the pickle that PyTorch wrote before 1.6
            if start != b'PK' and start[:1] != b'\x80':
                raise OSError(f'it begins with {start!r}')
            content = torch.load(path, map_location, weights_only=True)
    _check_form(content, filename)
    return content


def local_checkpoint(filename: Union[str, os.PathLike]) -> Path:
    """The file of a checkpoint, downloaded if it is given by address.

    Args:
        filename (str | os.PathLike): A path, ``http://`` or ``https://``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is a folder, a device or a pipe, or cannot be
            downloaded.
    """
    if is_address(filename):
        return download(str(filename))
    path = Path(filename).expanduser()
    check_is_file(path, f'checkpoint {path}')
    return path


def sha256_of_checkpoint(filename: Union[str, os.PathLike]) -> str:
    """Of the file, which is downloaded if it is given by address."""
    return sha256_of_file(local_checkpoint(filename))


def _check_form(content: Any, what: object) -> None:
    """Raise ValueError if a checkpoint does not have the form of one."""
    if not isinstance(content, Mapping):
        raise ValueError(
            f'checkpoint {what} holds {type(content).__name__}, not weights by name; it is not a '
            'checkpoint of a model'
        )
    weights = content.get('state_dict', content)
    if not isinstance(weights, Mapping):
        raise ValueError(
            f'checkpoint {what}: state_dict is {type(weights).__name__}, not weights by name'
        )
    if 'state_dict' in content:
        for name, value in weights.items():
            if not isinstance(name, str):
                raise ValueError(f'checkpoint {what}: {name!r} of state_dict is no name')
            _check_tensor(name, value, what)
    meta = content.get('meta')
    if not isinstance(meta, (Mapping, type(None))):
        raise ValueError(f'checkpoint {what}: meta is {meta!r}, not a dict')
    if 'state_dict' in content and not weights:
        raise ValueError(f'checkpoint {what}: state_dict is empty, there are no weights in it')
    data = (meta or {}).get('dataset_meta')
    classes = data.get('classes') if isinstance(data, Mapping) else data
    if not isinstance(data, (Mapping, type(None))) or not isinstance(
        classes, (list, tuple, type(None))
    ):
        raise ValueError(
            f'checkpoint {what}: meta.dataset_meta is {data!r}, without a list of classes'
        )


def _check_tensor(name: str, value: Any, what: object) -> None:
    wrong = ''
    if name.endswith('_metadata') or name.endswith('_extra_state'):
        return
    if not torch.is_tensor(value):
        wrong = f'{type(value).__name__}'
    elif value.layout != torch.strided:
        wrong = f'a {str(value.layout).removeprefix("torch.")} tensor'
    elif value.is_complex() or value.is_quantized:
        wrong = f'of type {value.dtype}'
    if wrong:
        raise ValueError(f'checkpoint {what}: {name} is {wrong}, not a dense tensor of numbers')


def check_finite(weights: Mapping[str, Any], what: object) -> None:
    """Raise ValueError if a weight is NaN or infinite, or a variance negative.

    The first ones are named.

    Args:
        weights (Mapping[str, Any]): Tensors by name; other values pass.
        what (object): The checkpoint.
    """
    bad = [
        name
        for name, value in weights.items()
        if torch.is_tensor(value)
        and value.is_floating_point()
        and (
            not value.isfinite().all()
            # of which a root is taken
            or (name.endswith('.running_var') and bool((value < 0).any()))
        )
    ]
    if bad:
        raise ValueError(
            f'checkpoint {what}: {len(bad)} weights are not finite or, of a variance, negative '
            f'({", ".join(bad[:3])}{", ..." if len(bad) > 3 else ""}); its training diverged, or '
            'the file is damaged. '
            'Use an earlier one'
        )


def load_weights(
    model: nn.Module,
    filename: Union[str, os.PathLike],
    way_out: str,
    content: Optional[Dict[str, Any]] = None,
) -> None:
    """Load a checkpoint's weights into a model, all of them.

    Args:
        model (Module): To be filled.
        filename (str | os.PathLike): ``.pth`` or ``.safetensors``, a path or an
            address.
        way_out (str): What to do if it is of another model.
        content (dict, optional): The file as ``load_checkpoint_file`` has read
            it; by default it is read here.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file cannot be read, a weight is not finite, its
            names and shapes are not those of the model, or it was trained for
            another process than that of the model's sampler.
    """
    if content is None:
        content = load_checkpoint_file(filename)
    weights = content.get('state_dict', content)
    check_finite(weights, filename)
    problem = ''
    try:
        result = model.load_state_dict(weights, strict=False)
    except RuntimeError as error:  # of another shape
        problem = str(error)
    else:
        if result.missing_keys or result.unexpected_keys:
            problem = f'missing {result.missing_keys[:5]}, left over {result.unexpected_keys[:5]}'
    if problem:
        raise ValueError(f'checkpoint {filename} is of another model: {problem}; {way_out}')
    if 'state_dict' in content:
        check_trained_process(model, content.get('meta') or {}, filename)


def _load_downloaded(file: Any, map_location: Optional[Any] = None) -> Dict[str, Any]:
    with _weights_only(f'that was downloaded ({file})'):
        return torch.load(file, map_location, weights_only=True)


def _load_from_url(
    url: str, map_location: Optional[Any] = None, model_dir: Optional[str] = None
) -> Dict[str, Any]:
    """Download once a node, then read as weights only."""
    return load_checkpoint_file(download(url, model_dir), map_location)


CheckpointLoader.register_scheme('', load_checkpoint_file, force=True)
CheckpointLoader.register_scheme(('http://', 'https://'), _load_from_url, force=True)
# what all other schemes of mmengine read through, whichever there are
mmengine_checkpoint.load_from_http = _load_from_url
mmengine_checkpoint._safe_torch_load = _load_downloaded
