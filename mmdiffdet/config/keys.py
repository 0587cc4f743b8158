"""Check the keys at the top of a config: which there are, and which nothing reads."""

import inspect
import logging
import re
from typing import Any, List

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.runner import Runner

from ..errors import nearest
from .value_types import describe, leaves

# read by MMEngine's runner, by MMDetection's tools or by ours
TOP_LEVEL = {
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
# variables of nearly every config
_VARIABLES = {
    *('train_pipeline', 'val_pipeline', 'test_pipeline', 'backend_args', 'metainfo', 'classes'),
    *('dataset_type', 'data', 'data_root', 'max_iters', 'max_epochs', 'num_classes'),
    'num_proposals',
}
_DICTS = {
    *('train_cfg', 'val_cfg', 'test_cfg', 'optim_wrapper', 'default_hooks', 'env_cfg', 'strategy'),
    *('randomness', 'auto_scale_lr', 'train_dataloader', 'val_dataloader', 'test_dataloader'),
    *('visualizer', 'log_processor', 'model', 'custom_imports', 'tta_model', 'model_wrapper_cfg'),
}
_KINDS = (
    (dict, _DICTS, 'dict(...)'),
    ((list, tuple), {'custom_hooks', 'tta_pipeline'}, 'a list'),
    (
        (dict, list, tuple),
        {'param_scheduler', 'val_evaluator', 'test_evaluator'},
        'dict(...) or a list of them',
    ),
    (str, {'load_from', 'work_dir', 'launcher', 'experiment_name'}, 'text'),
    ((str, int), {'log_level'}, 'text'),
    (bool, {'resume', 'find_unused_parameters'}, 'True or False'),
)


def check_top_level(cfg: Config, content: dict, options: dict) -> None:
    """Raise ValueError at keys that do nothing; warn of others that nothing reads.

    ``content`` is the config as plain data, ``options`` are those of ``--cfg-options``.
    """
    for key, value in content.items():
        for kinds, keys, expected in _KINDS:
            if key in keys and value is not None and not isinstance(value, kinds):
                raise ValueError(f'{key} of the config must be {expected}, got {describe(value)}')
    if not isinstance(content.get('model'), dict):
        raise ValueError(
            f'{cfg.filename} has no model{nearest("model", content)}; a config of a model and its '
            'data starts with _base_, see configs/'
        )
    code = _code(cfg.text or '')
    unread: List[str] = []
    for key in content:
        given = any(k.split('.')[0] == key for k in options)
        # anywhere but where it is set
        used = re.search(rf'(?<![\w.])(_base_\.)?{re.escape(key)}\b(?!\s*=[^=])', code) is not None
        if key in TOP_LEVEL or (used and not given):
            continue
        if key in _OLD and not used and (given or _looks_old(key, content[key])):
            raise ValueError(
                f'{key} is a name of MMDetection 2 and would do nothing; it is {_OLD[key]} now'
            )
        if given and used:
            raise ValueError(
                f'--cfg-options {key}: the config file has used this variable already, so that it '
                'would change nothing; give the key where the value is needed, e.g. '
                'model.test_cfg.eval_seed=1'
            )
        if given:
            raise ValueError(
                f'--cfg-options {key}: the config has no such key, nothing reads it'
                f'{nearest(key, TOP_LEVEL)}'
            )
        # a config that was written out has its variables once more
        if key not in _VARIABLES and (
            nearest(key, TOP_LEVEL, 0.85)  # misspelt, even if the same stands there, too
            or not any(value == content[key] for _, _, value in leaves(content, key, True))
        ):
            unread.append(f'{key}{nearest(key, TOP_LEVEL)}')
    if unread:
        print_log(f'{cfg.filename}: nothing reads {", ".join(unread)}', 'current', logging.WARNING)


def _looks_old(key: str, value: Any) -> bool:
    """Whether a key is MMDetection 2's, and no variable of a config that was written out."""
    if key != 'data' or not isinstance(value, dict):
        return key != 'data'
    old = {'samples_per_gpu', 'workers_per_gpu', 'train_dataloader'} & set(value)
    return bool(old) or any(isinstance(v, dict) and 'pipeline' in v for v in value.values())


def _code(text: str) -> str:
    """The text of config files without file names, comments and plain strings."""
    lines = [line for line in text.splitlines() if not re.fullmatch(r'\S+\.(py|json|ya?ml)', line)]
    strings = r'""".*?"""|\'\'\'.*?\'\'\'|"[^"\n]*"|\'[^\'\n]*\'|#[^\n]*'
    return re.sub(
        strings, lambda m: m[0] if '{{' in m[0] else '""', '\n'.join(lines), flags=re.DOTALL
    )
