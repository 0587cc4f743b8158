"""Training configs of the Detectron2 system (YAML) as configs of ours."""

import os.path as osp
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List

from mmengine.config import Config

from ..datasets.from_file import extra_coco_datasets
from ..errors import nearest
from ..paths import CONFIGS
from ..utils import printable
from .detectron2_data import data_config
from .detectron2_model import model_config
from .detectron2_options import OPTIONS, sections
from .detectron2_values import check_value, same

_PREFIX = 'MODEL.DiffusionDet.'
# Detectron2's names of data sets -> files of configs/_base_/datasets
_DATASETS = {
    'coco_2017_train': 'coco_detection',
    'coco_2017_val': 'coco_detection',
    'repro_10k_train': 'repro10k',
    'repro_10k_val': 'repro10k',
}
_IMAGENET = {
    'R-50.pkl': 'resnet50-0676ba61.pth',
    'R-101.pkl': 'resnet101-63fe2227.pth',
}


@dataclass
class ConvertedConfig:
    """The contents of a config file of ours, and what has no place in it.

    ``unknown`` holds keys of the YAML that were not converted, with the reason,
    ``notes`` what is left to do by hand.
    """

    config: Dict[str, Any]
    unknown: Dict[str, str] = field(default_factory=dict)
    notes: List[str] = field(default_factory=list)


def convert_config(values: Dict[str, Any], out: Path) -> ConvertedConfig:
    """Turn Detectron2's options (from :func:`read_yaml`) into a config of ours.

    The config will be the file ``out``; bases are named relative to it. ValueError if
    a known option has a value of another type or out of its range.
    """
    known, unknown = {}, {}
    for name, value in values.items():
        short = name.removeprefix(_PREFIX)
        option = OPTIONS.get(short)
        if option is None:
            names = [k if '.' in k else f'{_PREFIX}{k}' for k in OPTIONS]
            unknown[name] = f'unknown{nearest(name, names)}'
        elif option.section == 'fixed' and not same(value, option.default):
            unknown[name] = f'only {option.default!r} is supported'
        else:
            known[short] = value
            if option.section not in ('fixed', 'unused'):
                check_value(name, value, option.default)
            elif not same(value, option.default):
                unknown[name] = f'{value!r} has no counterpart'
    s = sections(known)
    result = ConvertedConfig({}, unknown)
    dataset = _dataset(s['data'], result)
    bases = ['default_runtime.py', *([f'datasets/{dataset}.py'] if dataset else [])]
    base_dir = osp.relpath(CONFIGS / '_base_', out.parent.resolve())
    pixels = dict(type='DetDataPreprocessor', pad_size_divisor=32, **s['preprocessor'])
    result.config = dict(
        _base_=[f'{base_dir}/{base}' for base in bases],
        model=dict(
            model_config(known),
            data_preprocessor=pixels,
            backbone=_backbone(s['backbone'], result),
            neck=dict(type='FPN', in_channels=[256, 512, 1024, 2048], num_outs=4, **s['neck']),
        ),
        **_schedule(s, result),
        **data_config(s['data'], dataset),
    )
    return result


def dump(result: ConvertedConfig, source: Path) -> str:
    """Text of the config file, with what was not converted of the YAML ``source`` on top.

    ValueError if a value has ``{{``, which MMEngine replaces when it reads the file.
    """
    lines = [f'From {source.name}']
    lines += [f'Not converted: {k} ({why})' for k, why in sorted(result.unknown.items())]
    lines += [f'To do: {note}' for note in result.notes]
    # a config is a program: what the YAML says stays within its comment
    comment = ''.join(f'# {printable(line)}\n' for line in lines)
    text = Config(result.config).pretty_text
    for line in text.splitlines():
        if '{{' in line:
            raise ValueError(
                f'the value in {line.strip()!r} has {{{{, which MMEngine replaces in config '
                'files; write it otherwise'
            )
    return comment + text


def _dataset(data: Dict[str, Any], result: ConvertedConfig) -> str:
    names = (*data['DATASETS.TRAIN'], *data['DATASETS.TEST'])
    found = {_DATASETS.get(name) for name in names}
    if len(found) == 1 and None not in found:
        return found.pop()
    if len(names) == 2 and set(names) <= set(extra_coco_datasets()):
        result.notes.append('keep EXTRA_COCO_DATASETS set: ann_file holds names of it')
        return 'own_coco'
    for key in ('DATASETS.TRAIN', 'DATASETS.TEST'):
        result.unknown[key] = f'no base config for {", ".join(data[key]) or "no data set"}'
    result.notes.append(
        'add a data set from configs/_base_/datasets to _base_, then set '
        'train_dataloader.batch_size='
        f'{data["SOLVER.IMS_PER_BATCH"]} (images of all processes)'
    )
    return ''


def _backbone(s: Dict[str, Any], result: ConvertedConfig) -> Dict[str, Any]:
    backbone = dict(
        type='ResNet',
        depth=s['MODEL.RESNETS.DEPTH'],
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=s['MODEL.BACKBONE.FREEZE_AT'] - 1,
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
        style='caffe' if s['MODEL.RESNETS.STRIDE_IN_1X1'] else 'pytorch',
    )
    weights = s['MODEL.WEIGHTS']
    torchvision = _IMAGENET.get(osp.basename(weights))
    if torchvision and 'torchvision' in weights:
        address = f'https://download.pytorch.org/models/{torchvision}'
        backbone['init_cfg'] = dict(type='Pretrained', checkpoint=address)
    elif weights:
        result.unknown['MODEL.WEIGHTS'] = weights
        result.notes.append(
            f'convert {weights} with tools/convert_checkpoint.py and give the result as load_from'
        )
    return backbone


def _schedule(s: Dict[str, Any], result: ConvertedConfig) -> Dict[str, Any]:
    t = s['schedule']
    iters = t['SOLVER.MAX_ITER']
    amp = t['SOLVER.AMP.ENABLED']
    wrapper = dict(
        type='PartAmpOptimWrapper' if amp else 'PartOptimWrapper',
        constructor='PartOptimWrapperConstructor',
        optimizer=dict(type='AdamW', **s['optimizer']),
        paramwise_cfg={f'{k}_lr_mult': v for k, v in s['lr_mult'].items()},
        **(dict(loss_scale='dynamic') if amp else {}),
        **(dict(clip_grad=s['clip_grad']) if t['SOLVER.CLIP_GRADIENTS.ENABLED'] else {}),
    )
    warmup = dict(type='LinearLR', by_epoch=False, begin=0, **s['warmup'])
    steps = dict(type='MultiStepLR', by_epoch=False, begin=0, end=iters, **s['steps'])
    schedulers = [warmup, steps] if warmup['end'] > 0 else [steps]
    interval = t['TEST.EVAL_PERIOD'] or iters
    config = dict(
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=iters, val_interval=interval),
        val_cfg=dict(type='ValLoop'),
        test_cfg=dict(type='MultiSeedTestLoop'),
        param_scheduler=schedulers,
        optim_wrapper=wrapper,
        auto_scale_lr=dict(enable=False, base_batch_size=s['data']['SOLVER.IMS_PER_BATCH']),
        default_hooks=dict(checkpoint=dict(interval=t['SOLVER.CHECKPOINT_PERIOD'])),
        work_dir=t['OUTPUT_DIR'],
    )
    if t['SEED'] >= 0:
        config['randomness'] = dict(seed=t['SEED'])
    hooks = []
    if t['MODEL_EMA.ENABLED']:
        momentum = 1 - t['MODEL_EMA.DECAY']
        hooks.append(dict(type='EMAHook', ema_type='ForeachEMA', momentum=momentum, gamma=2000))
    if any(s['geometry_warmup'].values()) and s['switch']['GEO_FEAT']:
        hooks.append(dict(type='GeometryWarmupHook', **s['geometry_warmup']))
    if s['switch']['USE_FED_LOSS']:
        hooks.append(dict(type='FederatedFrequencyHook'))
    distill = dict(s['distill'])
    weights = distill.pop('teacher')
    if weights:
        checkpoint = weights if '://' in weights else str(Path(weights).with_suffix('.safetensors'))
        teacher = dict(checkpoint=checkpoint)
        hooks.append(dict(type='SamplerDistillHook', teacher=teacher, **distill))
        result.notes += [
            f'convert the teacher: python tools/convert_checkpoint.py {weights} {checkpoint}',
            f'compare {distill} of SamplerDistillHook with the original: what the '
            'YAML does not set has the values of the "stable" recipe',
        ]
    else:
        for name, option in OPTIONS.items():
            if option.section == 'distill' and not same(s['distill'][option.key], option.default):
                result.unknown[f'{_PREFIX}{name}'] = 'there is no SAMPLER_DISTILL_TEACHER_WEIGHTS'
    if hooks:
        config['custom_hooks'] = hooks
    return config
