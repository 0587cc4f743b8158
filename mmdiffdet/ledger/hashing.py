"""Hashes that make a result traceable: of files, and of what a config tests."""

import copy
import hashlib
import json
import os
from typing import Any, Dict, List, Mapping, Optional, Union

from ..config.text import parse_config_text
from ..utils import leaf_datasets

# of the sampler, what the protocol says; of the data and metrics, with what other
# options AP is another number
_IN_PROTOCOL = ('type', 'sampling_timesteps', 'eta')
_SAMPLER = 'DiffusionSampler'
_OF_DATA = ('indices', 'bbox_min_size')
_OF_METRIC = ('iou_thrs', 'proposal_nums')


def sha256_of_file(path: Union[str, os.PathLike]) -> str:
    """Return the SHA-256 of a file's bytes as hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_of_config(config: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a config, which does not depend on the order of its keys.

    Args:
        config (Mapping): Mappings, sequences, strings, numbers, booleans and
            None. Tuples count as lists.

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


def merge(cfg: Dict[str, Any], change: Mapping[str, Any]) -> None:
    """Merge a nested change into a config in place. A None switches something off."""
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(cfg.get(key), dict):
            merge(cfg[key], value)
        else:
            cfg[key] = copy.deepcopy(value)


def sha256_of_test(
    cfg: Mapping[str, Any], sampler: Mapping[str, Any], num_proposals: Optional[int] = None
) -> str:
    """Return the ``config_sha256`` of a row: the hash of what decides its numbers.

    That is the model, the test pipeline and the options of the evaluation. What
    the protocol says, seeds and paths are left out, as they would split one
    experiment into many.

    Args:
        cfg (Mapping): The whole config of the test.
        sampler (Mapping): The model's sampler with the changes of the variant
            that is tested. It is empty for a detector that does not sample.
        num_proposals (int, optional): The variant's own number of proposals.
    """
    model = {k: v for k, v in cfg['model'].items() if k != 'train_cfg'}
    model['backbone'] = {k: v for k, v in model['backbone'].items() if k != 'init_cfg'}
    model['test_cfg'] = {k: v for k, v in (model.get('test_cfg') or {}).items() if k != 'eval_seed'}
    if num_proposals:
        model['test_cfg']['num_proposals'] = num_proposals
    if sampler:
        scheduler = {k: v for k, v in sampler['scheduler'].items() if k != 'type'}
        rest = {k: v for k, v in sampler.items() if k not in _IN_PROTOCOL}
        # a class of a user's own; ours is left out, as in rows of old
        if sampler.get('type', _SAMPLER).split('.')[-1] != _SAMPLER:
            rest['type'] = sampler['type']
        model['sampler'] = dict(rest, scheduler=scheduler)
    leaves = leaf_datasets(cfg['test_dataloader']['dataset'])
    pipelines = [leaf.get('pipeline', []) for leaf in leaves]
    tested = dict(model=model, pipeline=pipelines[0] if len(pipelines) == 1 else pipelines)
    if cfg['test_cfg'].get('tta'):
        tested['tta'] = cfg['test_cfg']['tta']
    metrics = cfg.get('test_evaluator') or []
    metrics = metrics if isinstance(metrics, list) else [metrics]
    for name, parts, keys in (('data', leaves, _OF_DATA), ('metric', metrics, _OF_METRIC)):
        options = [{k: part[k] for k in keys if part.get(k) is not None} for part in parts]
        if any(options):
            tested[name] = options
    compiled = [hook for hook in cfg.get('custom_hooks') or [] if hook['type'] == 'CompileHook']
    if compiled:  # which rounds differently
        tested['compile'] = compiled
    return sha256_of_config(tested)


def sha256s_of_tests(text: str) -> List[str]:
    """Return the ``config_sha256`` of each variant that a dumped config tests.

    A GPU takes a batch of images at once unless the config says how many, which the
    hash of its rows knows (:func:`~mmdiffdet.engine.images_per_pass.images_per_pass`).

    Args:
        text (str): The dumped config. It is parsed and not executed.

    Raises:
        ValueError: If the text is not the dumped config of a test.
    """
    try:
        cfg = parse_config_text(text)
        hashes = []
        for variant in cfg['test_cfg'].get('variants') or [{}]:
            sampler, change = copy.deepcopy(cfg['model'].get('sampler') or {}), dict(variant)
            num_proposals = change.pop('num_proposals', None)
            if sampler:
                merge(sampler, change)
            together = copy.deepcopy(cfg)
            together['model'].setdefault('test_cfg', {}).setdefault(
                'images_per_pass', cfg['test_dataloader'].get('batch_size')
            )
            for tested in (cfg, together):  # on a CPU; on a GPU
                hashes.append(sha256_of_test(tested, sampler, num_proposals if sampler else None))
        return hashes
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f'is no dumped config of a test: {type(error).__name__} {error}') from None
