"""Malformed configs, options, checkpoints and YAML files, and what the tools make of them.

    python tests/mutate_inputs.py [--seed 0] [--count 25]
        [--kinds config options checkpoint yaml] [--out CASES.tsv]

Each case is a good input with one fault, drawn by the seed. A tool gets it in a
process of its own, forked from one that has imported everything, and the
outcome is one of

    ok          the tool did its work and was right to, or told the fault
    named       one line that names the culprit, and exit code 1 or 2
    unnamed     one line that does not
    traceback   a Python traceback
    silent      exit code 0 without a word about a fault that has consequences
    hang        no end within a minute
    crash       ended by a signal

``tests/test_bad_inputs.py`` runs a few of each kind.
"""

import argparse
import copy
import os
import random
import re
import resource
import signal
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Sequence, Tuple

import torch
import yaml
from forked import Popen
from mmengine.config import Config
from safetensors.torch import save_file
from tiny import ROOT, runner_config, write_coco

KINDS = ('config', 'options', 'checkpoint', 'yaml')
OUTCOMES = ('ok', 'named', 'unnamed', 'traceback', 'silent', 'hang', 'crash')
TIMEOUT = 60
MEMORY = 12 * 2**30


@dataclass
class Case:
    """A tool's arguments with one fault in what they lead to.

    Args:
        kind (str): One of :data:`KINDS`.
        name (str): The fault.
        tool (str): Of ``tools/``.
        argv (list[str]): Its arguments.
        culprits (tuple[str, ...]): Words of which a good message has one.
        must_tell (bool): Whether silence is wrong.
        prepare (Callable, optional): Puts special files in place.
    """

    kind: str
    name: str
    tool: str
    argv: List[str]
    culprits: Tuple[str, ...]
    must_tell: bool = True
    prepare: Callable[[], None] = field(default=lambda: None)


class Lab:
    """A tiny config, data set, checkpoint and YAML that are all right."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        cfg = runner_config(write_coco(folder / 'data'), folder, ['quality'])
        cfg.pop('work_dir')
        self.config = folder / 'tiny.py'
        cfg.dump(self.config)
        self.cfg = Config.fromfile(self.config)
        self.checkpoint = folder / 'good/iter_2.pth'
        code, text = run_tool(
            'train.py', [str(self.config), '--work-dir', str(folder / 'good')], folder
        )
        if code or not self.checkpoint.exists():
            raise RuntimeError(f'the good config does not train:\n{text}')
        self.content = torch.load(self.checkpoint, weights_only=False)  # our own file
        self.number = 0

    def new(self, name: str) -> Path:
        """A path that no case has had."""
        self.number += 1
        folder = self.folder / f'case{self.number}'
        folder.mkdir()
        return folder / name

    def test(self, config: Path, checkpoint: Path, *options: str) -> List[str]:
        """Arguments of ``tools/test.py``."""
        work = self.new('work')
        argv = [str(config), str(checkpoint), '--no-ledger', '--work-dir', str(work)]
        return argv + (['--cfg-options', *options] if options else [])

    def train(self, config: Path, *options: str) -> List[str]:
        """Arguments of ``tools/train.py``."""
        argv = [str(config), '--work-dir', str(self.new('work'))]
        return argv + (['--cfg-options', *options] if options else [])


def run_tool(
    tool: str,
    argv: Sequence[str],
    folder: Path,
    seconds: float = TIMEOUT,
    prepare: Callable[[], None] = lambda: None,
) -> Tuple[int, str]:
    """Run a tool in a forked process.

    Args:
        tool (str): Of ``tools/``.
        argv (Sequence[str]): Its arguments.
        folder (Path): For its output.
        seconds (float): After which it gets a SIGKILL.
        prepare (Callable): Called in the process.

    Returns:
        tuple[int, str]: Exit code, minus the signal's number if one ended it
        (-1000 after the timeout), and both streams.
    """

    def limited() -> None:
        # a model of 10**9 channels is refused, not paged out
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        prepare()

    log = folder / 'output.txt'
    with open(log, 'wb') as out:
        process = Popen([sys.executable, f'tools/{tool}', *argv], out, cwd=ROOT, prepare=limited)
    if process.wait(seconds) is not None:
        return process.returncode, log.read_text(errors='replace')
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:  # it has no group of its own yet
        process.kill()
    process.wait()
    return -1000, log.read_text(errors='replace')


def outcome(case: Case, code: int, text: str) -> str:
    """Which of :data:`OUTCOMES` it was."""
    if code == -1000:
        return 'hang'
    if code < 0:
        return 'crash'
    if 'Traceback (most recent call last)' in text:
        return 'traceback'

    def tells(lines: List[str]) -> bool:
        said = '\n'.join(lines)
        return any(word and word in said for word in case.culprits)

    lines = text.splitlines()
    if code:
        start = next((i for i, x in enumerate(lines) if re.search(r'(?i)\berror: ', x)), None)
        last = lines[start:] if start is not None else lines[-1:]
        return 'named' if tells(last) else 'unnamed'
    said = [x for x in lines if re.search(r'WARNING|Warning|not converted|to do:', x)]
    return 'silent' if case.must_tell and not tells(said) else 'ok'


# ---------------------------------------------------------------- values


def leaves(value: Any, path: Tuple = ()) -> Iterator[Tuple[Tuple, Any]]:
    """Values with their paths, and the dicts and lists around them."""
    if path:
        yield path, value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, (list, tuple)) and any(isinstance(v, (dict, list)) for v in value):
        for index, inner in enumerate(value):
            yield from leaves(inner, (*path, index))


def misspell(rng: random.Random, name: str) -> str:
    """One letter doubled, dropped or exchanged."""
    place = rng.randrange(max(len(name) - 1, 1))
    change = rng.choice(('double', 'drop', 'swap'))
    if change == 'drop' and len(name) > 3:
        return name[:place] + name[place + 1 :]
    swapped = name[:place] + name[place + 1 : place + 2] + name[place] + name[place + 2 :]
    if change == 'swap' and swapped != name:
        return swapped
    return name[:place] + name[place] + name[place:]


def wrong_type(rng: random.Random, value: Any) -> Any:
    """A value of a kind that cannot stand here."""
    if isinstance(value, bool):
        return rng.choice(['maybe', 'no', [1, 2]])
    if isinstance(value, (int, float)):
        return rng.choice(['abc', '1e', [1, 'x'], {'a': 1}])
    if isinstance(value, str):
        return rng.choice([3, 2.5, [1, 2], {'a': 1}])
    if isinstance(value, dict):
        return rng.choice([3, 'abc', [1, 2]])
    return rng.choice([3.5, 'abc', {'a': 1}])


def written(value: Any) -> str:
    """A value as ``--cfg-options`` takes it; dicts stay out."""
    return str(value).replace(' ', '').replace("'", '')


def set_at(root: Any, path: Tuple, value: Any) -> None:
    for key in path[:-1]:
        root = root[key]
    root[path[-1]] = value


# read by neither tool, or names that people give as they like
_FREE = ('work_dir', 'experiment_name', 'palette', 'imports', 'data_root', 'dataset_type', 'name')
# what many of are possible, and take their time
_COSTLY = ('num_workers', 'max_iters', 'sampling_timesteps', 'num_stages', 'num_threads')
_OLD_KEYS = {
    'data': dict(samples_per_gpu=2),
    'optimizer': dict(type='SGD', lr=0.1),
    'lr_config': dict(policy='step', step=[8, 11]),
    'runner': dict(type='EpochBasedRunner', max_epochs=12),
    'evaluation': dict(interval=1, metric='bbox'),
    'checkpoint_config': dict(interval=1),
    'log_config': dict(interval=50),
    'optimizer_config': dict(grad_clip=None),
    'total_epochs': 12,
    'workflow': [('train', 1)],
    'img_norm_cfg': dict(mean=[1, 2, 3]),
}


def _of_config(lab: Lab, rng: random.Random) -> Tuple[str, Tuple, Any, bool]:
    """A fault: its name, where, what, and whether silence is wrong."""
    places = [
        (path, value)
        for path, value in leaves(lab.cfg._cfg_dict.to_dict())
        # variables of the file, and copies of what is above them
        if path[0] not in ('train_pipeline', 'test_pipeline', 'metainfo', 'max_iters')
        and not set(path) & set(_FREE)
    ]
    fault = rng.choice(
        ('misspelt', 'misspelt', 'type', 'type', 'range', 'nan', 'none', 'class', 'deep', 'old')
    )
    numbers = [(p, v) for p, v in places if type(v) in (int, float)]
    if fault == 'misspelt':
        named = [(p, v) for p, v in places if isinstance(p[-1], str)]
        path, value = rng.choice(named)
        path = (*path[:-1], misspell(rng, path[-1]))
        return fault, path, copy.deepcopy(value), True
    if fault == 'type':
        path, value = rng.choice([(p, v) for p, v in places if v is not None])
        return fault, path, wrong_type(rng, value), True
    if fault == 'range':
        path, value = rng.choice(numbers)
        values = [-1, 0, -3.5]
        if path[-1] not in _COSTLY:
            values += [10**9, 1e30]
        return fault, path, rng.choice(values), 'thr' in str(path[-1])
    if fault == 'nan':
        path, value = rng.choice(numbers)
        value = rng.choice([float('nan'), float('inf')])
        # the largest gradient is a norm, too
        return fault, path, value, path[-1] not in ('max_norm', 'norm_type')
    if fault == 'none':
        path, value = rng.choice(places)
        return fault, path, None, False
    if fault == 'class':
        path, value = rng.choice([(p, v) for p, v in places if p[-1] == 'type'])
        return fault, path, misspell(rng, value.rpartition('.')[2]), True
    if fault == 'deep':
        path, value = rng.choice([(p, v) for p, v in places if not isinstance(v, (dict, list))])
        return fault, (*path, 'deeper'), 1, True
    key = rng.choice(sorted(_OLD_KEYS))
    return fault, (key,), copy.deepcopy(_OLD_KEYS[key]), True


def _words(path: Tuple, value: Any) -> Tuple[str, ...]:
    """What a message may call it: its key, the owner, the value."""
    keys = [k for k in path if isinstance(k, str)]
    return (*keys[-2:], '.'.join(map(str, path)), *([value] if isinstance(value, str) else []))


def options_case(lab: Lab, rng: random.Random) -> Case:
    """A fault in ``--cfg-options``."""
    broken = rng.random()
    if broken < 0.08:
        text = rng.choice(
            ['model', 'model.=3', '=3', 'model..neck=3', 'model.neck.in_channels=[1,2', 'a=b=(c']
        )
        path, fault, must = (text,), 'syntax', True
        words: Tuple[str, ...] = (text, text.split('=')[0] or text, '--cfg-options')
    else:
        fault, path, value, must = _of_config(lab, rng)
        if isinstance(value, dict):
            key, value = next(iter(value.items()))
            path = (*path, key)
        text = f'{".".join(map(str, path))}={written(value)}'
        words = _words(path, value)
    early = path[0] in ('test_dataloader', 'test_evaluator', 'test_cfg', 'val_cfg')
    if early or (path[0] == 'model' and rng.random() < 0.5):
        argv, tool = lab.test(lab.config, lab.checkpoint, text), 'test.py'
    else:
        argv, tool = lab.train(lab.config, text), 'train.py'
    return Case('options', f'{fault}: {text}', tool, argv, words, must)


def config_case(lab: Lab, rng: random.Random) -> Case:
    """A fault in a config file."""
    file = lab.new('tiny.py')
    text = lab.config.read_text()
    if rng.random() < 0.35:
        fault, text, word = rng.choice(
            [
                ('cut', text[: rng.randrange(100, len(text) - 100)], 'tiny.py'),
                ('empty', '', 'tiny.py'),
                ('not Python', 'model: {type: DiffusionDet}\n- x\n', 'tiny.py'),
                ('name', f'{text}\nx = not_there\n', 'not_there'),
                ('import', f'import not_a_package\n{text}', 'not_a_package'),
                ('base', f"_base_ = ['not_there.py']\n{text}", 'not_there.py'),
                ('itself', f"_base_ = ['tiny.py']\n{text}", 'tiny.py'),
                ('raises', f'{text}\n1 / 0\n', 'tiny.py'),
                ('bytes', None, 'tiny.py'),
                ('folder', None, 'tiny.py'),
                ('fifo', None, 'tiny.py'),
                ('no model', re.sub(r'(?m)^model\b', 'modle', text, count=1), 'model'),
                ('imports', f"{text}\ncustom_imports = dict(imports=['no_such'])\n", 'no_such'),
                ('variable', f"{text}\nvalue = '{{{{$NOT_SET}}}}'\n", 'NOT_SET'),
                ('text for a list', f"{text}\ncustom_hooks = 'abc'\n", 'custom_hooks'),
            ]
        )
        if fault == 'fifo':
            os.mkfifo(file)
        elif fault == 'folder':
            file.mkdir()
        elif fault == 'bytes':
            file.write_bytes(bytes(rng.randrange(256) for _ in range(400)))
        else:
            file.write_text(text)
        # MMEngine reads a file with imports lazily; nothing asks for this one
        words, must = (word,), fault != 'import'
    else:
        fault, path, value, must = _of_config(lab, rng)
        cfg = Config(lab.cfg._cfg_dict.to_dict())._cfg_dict.to_dict()
        try:
            set_at(cfg, path, value)
        except (TypeError, KeyError, AttributeError):
            fault, path, value, must = 'old', ('data',), dict(samples_per_gpu=2), True
            set_at(cfg, path, value)
        file.write_text(
            re.sub(
                r'(?<=[ \[(])(nan|inf)(?=[,\])}\n])',
                r'float("\1")',
                ''.join(f'{k} = {v!r}\n' for k, v in cfg.items() if k.isidentifier()),
            )
        )
        words = _words(path, value)
        fault = f'{fault}: {".".join(map(str, path))}={value!r}'
    if rng.random() < 0.5:
        return Case('config', fault, 'train.py', lab.train(file), words, must)
    must = must and not fault.startswith(('nan: train', 'nan: opt', 'nan: param'))
    return Case('config', fault, 'test.py', lab.test(file, lab.checkpoint), words, must)


# ------------------------------------------------------------- checkpoints


def checkpoint_case(lab: Lab, rng: random.Random) -> Case:
    """A fault in a checkpoint that a tool reads."""
    tool = rng.choice(('test.py', 'test.py', 'resume', 'load_from', 'finalize_checkpoint.py'))
    ending = '.safetensors' if rng.random() < 0.2 and tool != 'resume' else '.pth'
    path = lab.new(f'bad{ending}')
    content = copy.deepcopy(lab.content)
    weights = content['state_dict']
    name = rng.choice([k for k, v in weights.items() if v.is_floating_point() and v.dim()])
    words: Tuple[str, ...] = (path.name, name)
    must = True
    raw = lab.checkpoint.read_bytes()
    special = {
        'cut': raw[: rng.randrange(10, len(raw) - 10)],
        'empty': b'',
        'text': b'version https://git-lfs.github.com/spec/v1\n',
        'html': b'<!DOCTYPE html><html></html>',
        'random': bytes(rng.randrange(256) for _ in range(500)),
        'zip': b'PK\x03\x04' + bytes(60),
    }
    inside: Dict[str, Callable[[], Any]] = {
        'nan': lambda: weights[name].view(-1)[:1].fill_(float('nan')),
        'inf': lambda: weights[name].view(-1)[:1].fill_(float('-inf')),
        'shape': lambda: weights.update({name: weights[name][None]}),
        'missing': lambda: weights.pop(name),
        'left over': lambda: weights.update({f'{name}x': weights[name].clone()}),
        'half': lambda: weights.update({name: weights[name].half()}),
        'integers': lambda: weights.update({name: weights[name].long()}),
        'complex': lambda: weights.update({name: weights[name].to(torch.complex64)}),
        'no tensor': lambda: weights.update({name: rng.choice([None, 'abc', 3, [1.0]])}),
        'sparse': lambda: weights.update({name: weights[name].to_sparse()}),
        'key': lambda: weights.update({3: weights[name]}),
        'state list': lambda: content.update(state_dict=list(weights.values())),
        'state none': lambda: content.update(state_dict=None),
        'state tensor': lambda: content.update(state_dict=torch.zeros(3)),
        'state empty': lambda: content.update(state_dict={}),
        'meta none': lambda: content.update(meta=None),
        'meta text': lambda: content.update(meta='abc'),
        'meta list': lambda: content.update(meta=[1]),
        'classes': lambda: content['meta'].update(dataset_meta=dict(classes=('a', 'b', 'c'))),
        'classes number': lambda: content['meta'].update(dataset_meta=dict(classes=3)),
        'data meta': lambda: content['meta'].update(dataset_meta=rng.choice([3, 'abc', [1]])),
        'iter': lambda: content['meta'].update(iter=rng.choice(['2', None, -1, 1.5])),
        'no iter': lambda: content['meta'].pop('iter'),
        'cfg': lambda: content['meta'].update(cfg=rng.choice([3, 'x = (', None])),
        'seed': lambda: content['meta'].update(seed=rng.choice(['0', 1.5, 7])),
        'optimizer': lambda: content.update(optimizer=rng.choice([None, [], {}, 'abc'])),
        'no optimizer': lambda: content.pop('optimizer'),
        'groups': lambda: content['optimizer']['param_groups'].pop(),
        'schedulers': lambda: content.update(param_schedulers=rng.choice([None, 3, [], {'a': 1}])),
        'hub': lambda: content.update(message_hub=rng.choice([None, 3, [], {'a': 1}])),
        'not a dict': lambda: rng.choice([[1, 2], 'abc', None, torch.zeros(2), 3]),
    }
    fault = rng.choice([*special, *inside, 'folder', 'fifo', 'device', 'absent', 'dangling'])
    if fault in inside and ending == '.safetensors':
        fault = rng.choice(['nan', 'inf', 'shape', 'missing', 'left over', 'half', 'integers'])
    # what only a training that goes on reads
    of_training = (
        'iter', 'no iter', 'seed', 'optimizer', 'no optimizer', 'groups', 'schedulers', 'hub'
    )  # fmt: skip
    if fault in ('half', 'meta none', 'cfg') or (fault in of_training and tool != 'resume'):
        must = False
    if fault in ('classes', 'classes number', 'data meta') and tool == 'load_from':
        must = False  # other classes are what a start from other weights is for
    if tool == 'finalize_checkpoint.py' and (
        fault in ('shape', 'missing', 'left over', 'classes', 'groups', 'sparse')
    ):
        must = False  # it does not know the model
    if fault in ('iter', 'no iter', 'optimizer', 'no optimizer', 'groups', 'schedulers', 'hub'):
        words = (*words, {'groups': 'optimizer', 'hub': 'message_hub'}.get(fault, fault[-9:]))
    if tool == 'load_from' and fault in ('missing', 'left over', 'shape') and '_parts.' in name:
        must = False
    if fault == 'folder':
        path.mkdir()
    elif fault == 'fifo':
        os.mkfifo(path)
    elif fault == 'device':
        path = Path('/dev/zero')
        words = ('/dev/zero',)
    elif fault == 'dangling':
        path.symlink_to(path.with_name('nothing.pth'))
    elif fault in special:
        path.write_bytes(special[fault])
    elif fault in inside:
        made = inside[fault]()
        if ending == '.safetensors':
            save_file({k: v.contiguous() for k, v in weights.items()}, path, {'meta': '{}'})
        else:
            torch.save(made if fault == 'not a dict' else content, path)
    if tool == 'test.py':
        argv = lab.test(lab.config, path)
    elif tool == 'resume':
        argv, tool = lab.train(lab.config), 'train.py'
        argv += ['--resume', str(path), '--cfg-options', 'train_cfg.max_iters=3']
    elif tool == 'load_from':
        argv, tool = lab.train(lab.config, f'load_from={path}'), 'train.py'
    else:
        argv = [str(path), str(lab.new('out.pth'))]
    return Case('checkpoint', f'{fault}: {name}', tool, argv, words, must)


# -------------------------------------------------------------------- YAML

_YAML = """
MODEL:
  META_ARCHITECTURE: DiffusionDet
  WEIGHTS: torchvision-R-50.pkl
  PIXEL_MEAN: [123.675, 116.28, 103.53]
  PIXEL_STD: [58.395, 57.12, 57.375]
  BACKBONE: {FREEZE_AT: 2}
  RESNETS: {DEPTH: 50, STRIDE_IN_1X1: false}
  FPN: {OUT_CHANNELS: 256}
  DiffusionDet:
    NUM_CLASSES: 80
    NUM_PROPOSALS: 500
    NUM_HEADS: 6
    NHEADS: 8
    SNR_SCALE: 2.0
    SAMPLE_STEP: 4
    USE_NMS: true
    OTA_K: 5
    CLASS_WEIGHT: 2.0
    ALPHA: 0.25
    QUALITY_HEAD: true
    QUALITY_GUIDANCE_SCALE: 0.1
    QUALITY_LOSS_TYPE: bce
    GEO_BIAS: true
    GEO_BIAS_TYPE: distance
    LABEL_STATE: true
    LABEL_STATE_KEEP_PROB_SCHEDULE: sqrt_alphas_cumprod
    CLS_LOSS_TYPE: focal
DATASETS: {TRAIN: [coco_2017_train], TEST: [coco_2017_val]}
SOLVER:
  IMS_PER_BATCH: 16
  BASE_LR: 0.000025
  STEPS: (350000, 420000)
  MAX_ITER: 450000
  WARMUP_FACTOR: 0.01
  WARMUP_ITERS: 1000
  WEIGHT_DECAY: 0.0001
  OPTIMIZER: ADAMW
  CLIP_GRADIENTS: {ENABLED: true, CLIP_TYPE: full_model, CLIP_VALUE: 1.0, NORM_TYPE: 2.0}
SEED: 40244023
INPUT:
  MIN_SIZE_TRAIN: [480, 512, 800]
  MAX_SIZE_TRAIN: 1333
  CROP: {ENABLED: true, TYPE: absolute_range, SIZE: [384, 600]}
  FORMAT: RGB
TEST: {EVAL_PERIOD: 7330}
DATALOADER: {NUM_WORKERS: 4, FILTER_EMPTY_ANNOTATIONS: false}
MODEL_EMA: {ENABLED: false, DECAY: 0.999}
VERSION: 2
"""


def yaml_case(lab: Lab, rng: random.Random) -> Case:
    """A fault in a Detectron2 YAML."""
    file = lab.new('model.yaml')
    argv = [str(file), str(file.with_name('out.py'))]
    content = yaml.safe_load(_YAML)
    places = list(leaves(content))
    fault = rng.choice(('misspelt', 'type', 'type', 'range', 'nan', 'none', 'deep', 'text', 'text'))
    numbers = [(p, v) for p, v in places if type(v) in (int, float)]
    must = True
    if fault == 'text':
        fault, text, word = rng.choice(
            [
                ('cut', _YAML[: rng.randrange(40, 900)] + '\n  : [', 'model.yaml'),
                ('empty', '', 'model.yaml'),
                ('list', '- 1\n- 2\n', 'model.yaml'),
                ('number', '3', 'model.yaml'),
                ('twice', f'{_YAML}\nSEED: 3\n', 'SEED'),
                ('tag', f'{_YAML}\nX: !!python/object/apply:os.getcwd []\n', 'model.yaml'),
                ('base', f'_BASE_: nothing.yaml\n{_YAML}', 'nothing.yaml'),
                ('base number', f'_BASE_: 3\n{_YAML}', '_BASE_'),
                ('base itself', f'_BASE_: model.yaml\n{_YAML}', 'model.yaml'),
                ('key number', f'{_YAML}\n3: 4\n', '3'),
                ('key none', f'{_YAML}\nnull: 4\n', 'None'),
                ('braces', _YAML.replace('bce', '"{{bce}}"'), 'QUALITY_LOSS_TYPE'),
                ('bytes', None, 'model.yaml'),
                ('tabs', _YAML.replace('  ', '\t'), 'model.yaml'),
                ('fifo', None, 'model.yaml'),
                ('alias', f'A: &a [1, *a]\n{_YAML}', 'A'),
            ]
        )
        words: Tuple[str, ...] = (word,)
        if fault == 'fifo':
            os.mkfifo(file)
        elif fault == 'bytes':
            file.write_bytes(bytes(rng.randrange(128, 256) for _ in range(300)))
        else:
            file.write_text(text)
        return Case('yaml', fault, 'convert_config.py', argv, words, must)
    if fault == 'misspelt':
        path, value = rng.choice(places)
        value = copy.deepcopy(value)
        path = (*path[:-1], misspell(rng, path[-1]))
    elif fault == 'type':
        path, value = rng.choice(places)
        value = wrong_type(rng, value)
    elif fault == 'range':
        path, value = rng.choice(numbers)
        value = rng.choice([-1, -3.5, 10**12])
        must = path[-1] not in ('SEED', 'SNR_SCALE', 'VERSION', 'FREEZE_AT') and value < 0
    elif fault == 'nan':
        path, value = rng.choice(numbers)
        value = rng.choice([float('nan'), float('inf')])
    elif fault == 'none':
        path, value = rng.choice(places)
        value = None
    else:
        path, value = rng.choice([(p, v) for p, v in places if not isinstance(v, dict)])
        value = {'DEEPER': 1}
    set_at(content, path, value)
    file.write_text(yaml.safe_dump(content))
    words = (*path[-2:], '.'.join(path), *([value] if isinstance(value, str) else []))
    return Case(
        'yaml', f'{fault}: {".".join(path)}={value!r}', 'convert_config.py', argv, words, must
    )


CASES = dict(config=config_case, options=options_case, checkpoint=checkpoint_case, yaml=yaml_case)


def draw(lab: Lab, kind: str, count: int, seed: int) -> Iterator[Case]:
    """Cases of a kind; the seed says which."""
    for number in range(count):
        yield CASES[kind](lab, random.Random(f'{kind} {seed} {number}'))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--count', type=int, default=25, help='cases of each kind')
    parser.add_argument('--kinds', nargs='+', choices=KINDS, default=KINDS)
    parser.add_argument('--out', type=Path, help='all cases, with the end of what was said')
    parser.add_argument('--limit', type=float, default=1.0, help='per cent of bad outcomes')
    args = parser.parse_args()
    import tempfile

    rows, bad, total = [], 0, 0
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(Path(folder))
        print('\t'.join(('kind', *OUTCOMES)))
        for kind in args.kinds:
            counts: Counter = Counter()
            for case in draw(lab, kind, args.count, args.seed):
                code, text = run_tool(case.tool, case.argv, Path(folder))
                found = outcome(case, code, text)
                counts[found] += 1
                said = ' | '.join(text.strip().splitlines()[-3:])[-600:]
                rows.append('\t'.join((kind, found, case.tool, case.name, said)))
                if args.out:
                    args.out.write_text('\n'.join(rows) + '\n')
            print('\t'.join((kind, *(str(counts[o]) for o in OUTCOMES))), flush=True)
            total += args.count
            bad += sum(counts[o] for o in OUTCOMES[3:])
    share = 100 * bad / total
    print(f'{bad} of {total} ({share:.1f} %) end in a traceback, silence, hang or crash')
    return int(bad > total * args.limit / 100)


if __name__ == '__main__':
    sys.exit(main())
