"""Values of a config: their ranges, their types, and the classes that they are given to."""

import numbers
from typing import Any, Callable, Dict, List, Literal, Mapping, Optional, Sequence, Tuple

import pytest
from mmengine.config import Config

from mmdiffdet.config import check, keys
from mmdiffdet.config.check import check_config
from mmdiffdet.config.file import find_config, read_config
from mmdiffdet.config.numbers import check_number
from mmdiffdet.config.parts import Part, _arguments, check_part, parts
from mmdiffdet.config.text import parse_config_text
from mmdiffdet.config.value_types import describe, fits, leaves

NAN, INF = float('nan'), float('inf')


@pytest.mark.parametrize(
    'path, good, bad, said',
    [
        ('optim_wrapper.clip_grad.max_norm', [INF, 1.0], [NAN, [NAN]], 'finite number'),
        ('optim_wrapper.clip_grad.norm_type', [INF, 2], [NAN], 'finite number'),
        ('optim_wrapper.optimizer.lr', [0, 1e-4], [INF, [1.0, INF]], 'finite number'),
        ('train_cfg.anything', [1e30, True, 'text'], [INF, (1, -INF)], 'finite number'),
        ('model.head.sizes', [[0, INF]], [NAN], 'finite number'),
        ('model.head.mean', [[0, 1.0]], [[0, INF]], 'finite number'),
        ('model.head.num_classes', [3], [INF], 'finite number'),
        ('model.head.my_weight', [2.0], [INF], 'finite number'),
        ('randomness.seed', [0, None], [1.5, True, '3', 1.0], 'whole number'),
        ('env_cfg.cudnn_benchmark', [True, False], [1, None], 'True or False'),
        ('deterministic', [1], [], ''),  # a variable at the top
        ('optim_wrapper.constructor', ['X'], [3, None], 'text'),
        ('constructor', [3], [], ''),
        ('optim_wrapper.optimizer.lr', [0.1], [None, 'x', {}], 'a number'),
        ('train_dataloader.batch_size', [None, 1], ['x', {}], 'a number'),
        ('train_dataloader.anything', [None, 'x'], [], ''),
        ('pipeline.0.prob', [0, 1, 0.5, [0, 1]], [-0.01, 1.01, 2], 'from 0 to 1'),
        ('model.test_cfg.score_thr', [0, 1], [-0.01, 1.01], 'from 0 to 1'),
        ('data_preprocessor.std', [0.5, [1, 2]], [0, [1, 0], -1], 'greater than 0'),
        ('train_dataloader.num_workers', [0, 1], [-1], 'at least 0'),
        ('default_hooks.logger.interval', [-1, 0, 1], [-2], 'at least 0'),
        ('optim_wrapper.optimizer.lr', [0], [-1, -0.1], 'at least 0'),
        ('train_cfg.max_iters', [2**63 - 1, 1e30], [2**63, -(2**63)], r'below 2 \*\* 63'),
    ],
)
def test_ranges(path, good, bad, said):
    key = path.split('.')[-1]
    for value in good:
        check_number(path, key, value)
    for value in bad:
        with pytest.raises(ValueError, match=f'{path} must be (a )?{said}, got'):
            check_number(path, key, value)


class Thing:
    """Built from a dict."""


@pytest.mark.parametrize(
    'hint, good, bad',
    [
        (bool, [True, 0, 1], [2, 1.0, 'True', None]),
        (int, [3], [3.0, True]),
        (float, [3, 0.5], [True, [1.0], '1']),
        (numbers.Real, [3, 0.5], ['3', True]),
        (type(None), [None], [0]),
        (None, [None], [0]),
        (int | None, [3, None], ['3']),
        (Literal['a', 'b'], ['a'], ['c']),
        (Callable, ['anything', 3], []),
        (Mapping[str, int], [{}], [[{}], [], 3, None]),
        (Sequence[int], [[1], (1, 2), range(3), object()], ['a', {}, None, 3, [1.5]]),
        (list, [[1, 'a'], ()], [3, None]),
        (Tuple[int, str], [(1, 'a'), [1, 'a']], [(1, 2), (1,), (1, 'a', 'a')]),
        (Tuple[int, ...], [(1, 2, 3), (), [1]], [('a',), (1, 'a')]),
        (Thing, [{}, dict(type='Thing'), Thing()], [3, 'Thing', None, [1], True]),
        ('Thing', [3, None], []),  # a name that could not be looked up
        (Any, [3, None], []),
        (Optional[Thing], [None, {}], [3]),
    ],
)
def test_types(hint, good, bad):
    for value in good:
        assert fits(value, hint), value
    for value in bad:
        assert not fits(value, hint), value


def test_types_of_other_packages_are_taken_less_literally():
    for value, hint in (
        *((None, Thing), (None, list), (0.5, int), ([0.1, 0.2], float), ([{}, {}], Dict[str, int])),
        *(({}, Sequence[int]), (['a'], List[int])),
    ):
        assert fits(value, hint, strict=False) and not fits(value, hint), (value, hint)
    for value, hint in ((None, int), (None, str), (True, int), ([3], dict), ('a', Sequence[int])):
        assert not fits(value, hint, strict=False), (value, hint)


def test_values_as_text():
    assert describe('x' * 78) == f"'{'x' * 78}' (str)"
    assert describe('x' * 79) == f"'{'x' * 76}... (str)"
    nested = dict(a=1, b=dict(a=2, c=[dict(d=3), 4]))
    plain = [('a', 'a', 1), ('b.a', 'a', 2)]
    list_ = [('b.c', 'c', [dict(d=3), 4]), ('b.c.0.d', 'd', 3)]
    assert list(leaves(nested)) == plain + list_
    assert list(leaves(nested, 'a')) == plain[1:] + list_
    assert list(leaves(nested, 'a', True)) == [('b', 'b', nested['b']), *plain[1:], *list_]


def test_parts_are_dicts_with_a_type():
    cfg = dict(
        model=dict(type='A', neck=dict(type='B'), conv_cfg=dict(type='C'), plain=dict(x=1)),
        test_cfg=dict(type='D'),
        custom_hooks=[dict(type='E'), dict(hooks=(dict(type='F'),))],
        train_dataloader=dict(dataset=dict(type='Albu', transforms=[dict(type='G')])),
        my_variable=dict(type='H'),
    )
    assert [(p.path, p.key, p.cfg['type']) for p in parts(cfg)] == [
        ('model', 'model', 'A'),
        ('model.neck', 'neck', 'B'),
        ('test_cfg', 'test_cfg', 'D'),
        ('custom_hooks.0', 'custom_hooks', 'E'),
        ('custom_hooks.1.hooks.0', 'hooks', 'F'),
        ('train_dataloader.dataset', 'dataset', 'Albu'),
    ]


class Open:
    """Takes whatever there is."""

    def __init__(self, alpha=1, beta: int = 2, gamma=None, **kwargs):
        pass


class Closed(Thing):
    """Takes what is named."""

    def __init__(self, alpha, beta=(1, 2)):
        pass


def of(place, **cfg):
    return Part(place, place.split('.')[-1], cfg)


@pytest.mark.parametrize(
    'part, said',
    [
        (of('custom_hooks.0', type=Open, zzzz=1), None),
        (of('custom_hooks.0', type=Open, alphaa=1), "alphaa: .* did you mean 'alpha'"),
        (of('custom_hooks.0', type=Open, alpha='x'), 'alpha of .* must be .*got .x. .str'),
        (of('custom_hooks.0', type=Open, beta=[1]), r'beta of .* must be int, got \[1\]'),
        (of('custom_hooks.0', type=Open, gamma='x'), None),
        (of('custom_hooks.0', type=Closed, alpha='x', beta=3), None),
        (of('custom_hooks.0', type=Closed, beta='x'), 'beta of .* must be'),
        (of('custom_hooks.0', type=Closed, zzzz=1), 'zzzz: .* has no such option$'),
        (of('custom_hooks.0', type=Closed, priority=1), None),
        (of('param_scheduler.0', type=Closed, priority=1), 'priority: .* has no such option'),
        (of('model.neck', type=Closed, zzzz=1), None),  # its constructor tells
        (of('custom_hooks.0', type=3), r'custom_hooks.0.type must be the name of a class, got 3'),
        (of('custom_hooks.0', type='Zqxj'), None),  # may be of another registry
        (of('custom_hooks.0', type='mmdet.LogerHook'), "no 'mmdet.LogerHook'; .*'LoggerHook'"),
        (of('model.neck', type='LogerHook'), None),
        (of('optim_wrapper', type='AmpOptimWrapper', loss_scale=512.0, optimizer={}), None),
    ],
)
def test_parts_and_their_constructors(part, said):
    if said is None:
        check_part(part)
    else:
        with pytest.raises(ValueError, match=said):
            check_part(part)


def test_arguments_that_cannot_be_known_are_not_all():
    assert _arguments(max) == ({}, False)  # has no signature
    found, closed = _arguments(Open)
    assert not closed and found['beta'] is int and found['gamma'] == Optional[Any]
    assert _arguments(Closed)[1]


def config(tmp_path, text):
    (tmp_path / 'x.py').write_text(text)
    return Config.fromfile(tmp_path / 'x.py')


def made(**changes):
    return Config(dict(model=dict(type='X'), **changes))


HOOK = dict(type='CheckpointHook')


@pytest.mark.parametrize(
    'changes, said',
    [
        (dict(optim_wrapper=dict(optimizer=3)), 'optim_wrapper.optimizer must be dict'),
        (dict(default_scope=3), 'default_scope must be text, got 3'),
        (dict(default_hooks=dict(logger=3)), 'default_hooks.logger has no type'),
        (
            dict(default_hooks=dict(chekpoint=dict(interval=3), checkpoint=HOOK)),
            "default_hooks.chekpoint has no type; did you mean 'checkpoint'",
        ),
        (dict(train_dataloader=dict(batch_size=1.5)), 'batch_size must be a whole number'),
        (dict(val_dataloader=dict(num_workers=None)), 'num_workers must be a whole number'),
        (dict(train_dataloader=dict(sampler=3)), 'train_dataloader.sampler must be dict'),
        (dict(test_dataloader=dict(dataset=dict(data_prefix=dict(img=3)))), 'img must be text'),
        (dict(work_dir=3), 'work_dir of the config must be text'),
    ],
)
def test_configs_that_are_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        check_config(made(**changes))


@pytest.mark.parametrize(
    'changes',
    [
        dict(optim_wrapper=None, default_hooks=None, work_dir=None),
        dict(train_dataloader={}),
        dict(train_dataloader=dict(batch_size=None, num_workers=2, sampler=None)),
        dict(default_hooks=dict(checkpoint=HOOK, logger=None)),
        dict(env_cfg=dict(dist_cfg=dict(anything=1))),
    ],
)
def test_configs_that_pass(changes):
    check_config(made(**changes))


def test_two_hooks_of_one_kind_are_told(monkeypatch):
    told = []
    monkeypatch.setattr(check, 'print_log', lambda text, *_: told.append(text))
    check_config(made(default_hooks=dict(a=HOOK, b=dict(type='LoggerHook'))))
    assert told == []
    check_config(made(default_hooks=dict(a=HOOK, b=HOOK)))
    assert told == ['default_hooks.b is a second CheckpointHook, after default_hooks.a: both act']


def test_variables_that_nothing_reads(tmp_path, monkeypatch):
    """Not those of every config, nor copies of what stands elsewhere."""
    told = []
    monkeypatch.setattr(keys, 'print_log', lambda text, *_: told.append(text))
    cfg = config(
        tmp_path,
        "model = dict(type='X', size=(333, 800), piece=dict(a=1))\n"
        'max_iters = 77\nscale = (333, 800)\nchunk = dict(a=1)\n'
        "mystery = 12345  # mystery\nexperiment_name = 'mystery'\n"
        'used = 3\ntrain_cfg = dict(max_iters=used)\n',
    )
    check_config(cfg)
    assert told == [f'{tmp_path}/x.py: nothing reads mystery']
    (tmp_path / 'base.py').write_text("model = dict(type='X')\nstart = 'work_dirs'\n")
    check_config(config(tmp_path, "_base_ = 'base.py'\nload_from = '{{_base_.start}}/a.pth'\n"))
    assert len(told) == 1


@pytest.mark.parametrize(
    'text, said',
    [
        ('evaluation = dict(interval=1)', 'evaluation is a name of MMDetection 2'),
        ('data = dict(train=dict(pipeline=[]))', 'data is a name of MMDetection 2'),
        ('data = dict(samples_per_gpu=2)', 'data is a name of MMDetection 2'),
        ('data = dict(a=dict(b=1), c=3)', None),
        ("data = 'pcb'", None),
        ("optimizer = dict(type='SGD', lr=0.1)", 'optimizer is a name of MMDetection 2'),
        ("optimizer = dict(type='SGD', lr=0.1)\noptim_wrapper = dict(optimizer=optimizer)", None),
    ],
)
def test_names_of_mmdetection_2(tmp_path, text, said):
    cfg = config(tmp_path, f"model = dict(type='X')\n{text}\n")
    if said is None:
        check_config(cfg)
    else:
        with pytest.raises(ValueError, match=said):
            check_config(cfg)


def test_options_that_come_too_late(tmp_path):
    """The example is not another key that happens to have the new value."""
    cfg = config(tmp_path, "depth = 18\nmodel = dict(type='X', depth=depth, num=34)\n")
    cfg.depth = 34
    with pytest.raises(ValueError, match='used this variable already.*e.g. model.test_cfg.eval_s'):
        check_config(cfg, {'depth': 34})
    cfg.dept = 34
    with pytest.raises(ValueError, match='--cfg-options dept: the config has no such key'):
        check_config(cfg, {'dept': 34})


def test_configs_with_a_similar_name():
    with pytest.raises(FileNotFoundError) as error:
        find_config('configs/distill/20to1_seed9.py')  # there are five
    assert str(error.value).split('did you mean')[1].count('configs/distill/20to1_seed') == 3
    with pytest.raises(FileNotFoundError, match='did you mean configs/coco/coco.py'):
        find_config('coco/cocoo.py')
    with pytest.raises(FileNotFoundError, match='does not exist$'):
        find_config('configs/zzzz.py')


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / 'f.py').write_text('def f():\n    return {}["a"]\nx = 1\ny = f()\n')
    with pytest.raises(ValueError, match="f.py, line 4 cannot be read: KeyError: 'a'"):
        read_config(str(tmp_path / 'f.py'))
    (tmp_path / 'a.yaml').write_text('_base_: a.yaml\nmodel: {type: X}\n')
    with pytest.raises(ValueError, match='a.yaml is its own _base_'):
        read_config(str(tmp_path / 'a.yaml'))


def test_a_train_seed_that_an_option_contradicts(tmp_path):
    (tmp_path / 'x.py').write_text("model = dict(type='X')\nrandomness = dict(seed=0)\n")
    assert read_config(str(tmp_path / 'x.py'), 0).work_dir == 'work_dirs/x_seed0'
    with pytest.raises(ValueError, match='train seed 0: .* set randomness.seed=4'):
        read_config(str(tmp_path / 'x.py'), 0, {'randomness.seed': 4})


def test_text_of_configs_is_read_and_not_run():
    assert parse_config_text(
        'a = dict(b=[1, (2,)], **{"c-d": dict(e=None)})\nf = {"g": 1}'
    ) == dict(a={'b': [1, [2]], 'c-d': dict(e=None)}, f=dict(g=1))
    for text in ('', 'a = list(b=1)', 'a = dict([("b", 1)])', 'a', 'a = b', 'import os', 'a = ('):
        assert parse_config_text(text) is None, text
