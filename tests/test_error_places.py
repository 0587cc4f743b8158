"""Which part of a run a line of error names, and when it names none."""

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from test_errors import error_of
from torch import nn

from mmdiffdet.errors import nearest
from mmdiffdet.paths import PACKAGE
from mmdiffdet.registry import HOOKS, MODELS, TASK_UTILS


def thrown(error):
    """The line of an error that no file of ours has raised."""
    return error_of(lambda: exec('raise error', dict(error=error)))


def of_worker(kind, file, line, source, message):
    """As PyTorch hands on what a data loader's worker has raised."""
    return RuntimeError(
        f'Caught {kind} in DataLoader worker process 0.\n'
        'Original Traceback (most recent call last):\n'
        '  File "/torch/worker.py", line 3, in loop\n    data = fetch()\n'
        f'  File "{file}", line {line}, in call\n    {source}\n'
        f'{kind}: {message}\n'
    )


def test_the_line_of_an_unexpected_error():
    def foreign():
        {}['key']

    line = foreign.__code__.co_firstlineno + 1
    assert error_of(foreign) == f'unexpected error at test_error_places.py:{line}: KeyError: key'


def test_a_slip_in_a_file_of_ours_is_not_a_message_to_users():
    assert error_of(lambda: nearest('x', 3)).startswith('unexpected error at errors.py:')


@pytest.mark.parametrize(
    'source, said',
    [
        ('raise ValueError("no")', 'no label 9'),
        ('label = labels[9]', 'unexpected error at voc.py:7: ValueError: no label 9'),
    ],
)
def test_our_own_message_from_a_worker(source, said):
    error = of_worker('ValueError', PACKAGE / 'datasets/voc.py', 7, source, 'no label 9')
    assert thrown(error) == said


def test_a_step_is_the_class_of_the_line(tmp_path):
    text = 'class First:\n    x = 1\n\n\nclass Second:\n    def f(self):\n        return {}[3]\n'
    for folder in ('transforms', 'other'):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / 'mine.py').write_text(text)
    for line, name in ((1, 'First'), (2, 'First'), (5, 'Second'), (7, 'Second')):
        error = of_worker('KeyError', tmp_path / 'transforms/mine.py', line, 'return {}[3]', '3')
        assert thrown(error) == f'step {name} of a data pipeline: KeyError: 3'
    # other classes are no steps, nor is what is in no class
    for folder, line in (('other', 7), ('transforms', 3), ('transforms', 4)):
        error = of_worker('KeyError', tmp_path / folder / 'mine.py', line, 'return {}[3]', '3')
        assert thrown(error) == f'unexpected error at mine.py:{line}: KeyError: 3'


def test_a_layer_is_named_by_its_place():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(5, 6))
    text = error_of(lambda: model(torch.zeros(2, 3)))
    assert text.startswith('model.1 (Linear) of the model: RuntimeError: mat1 and mat2')
    text = error_of(lambda: nn.Linear(5, 6)(torch.zeros(2, 3)))
    assert text.startswith('Linear of the model: RuntimeError')


def test_a_hook_that_cannot_be_built():
    class Fails(Hook):
        def __init__(self):
            self.rate = 1 / 0

    HOOKS.register_module(name='Fails', module=Fails, force=True)
    cfg = Config(dict(custom_hooks=[dict(type='Other'), dict(type='Fails')]))

    def build(cfg):
        HOOKS.build(cfg.custom_hooks[1])

    assert error_of(lambda: build(cfg)) == (
        'custom_hooks.1 (Fails) of the config, Fails (default_hooks or custom_hooks of the '
        'config): ZeroDivisionError: division by zero'
    )


def test_a_mistake_within_a_class_is_not_one_of_the_config():
    class Inner:
        def __init__(self):
            (lambda a: a)(nope=1)

    TASK_UTILS.register_module(name='Inner', module=Inner, force=True)
    text = error_of(lambda: TASK_UTILS.build(dict(type='Inner')))
    assert text.startswith('Inner of the config: TypeError: ') and 'misspelt' not in text
    text = error_of(lambda: TASK_UTILS.build(dict(type='Inner', zzzzzz=1)))
    assert text.endswith('--cfg-options? The docstring of the class has its options')


def test_types_that_cannot_be_built():
    text = error_of(lambda: MODELS.build(dict(type='ResNett')))
    assert text.endswith("there is no model 'ResNett'; did you mean 'ResNet'?")  # MMDetection's
    text = error_of(lambda: MODELS.build(dict(type=3)))
    assert text.startswith('3 of the config: TypeError: type must be a str')


def test_a_function_of_that_name_elsewhere_builds_nothing():
    def build_from_cfg(cfg):
        return cfg['key']

    assert error_of(lambda: build_from_cfg(dict(type='X'))).startswith('unexpected error')


@pytest.mark.parametrize(
    'error, said',
    [
        (torch.OutOfMemoryError('the GPU is full'), 'the GPU is full What needs less'),
        (RuntimeError('CUDA out of memory. Tried\nmore'), 'CUDA out of memory. Tried What needs'),
        (ImportError('libcuda missing', name='wandb.sdk'), 'wandb is not installed: pip install'),
        (ImportError('No module named WandB'), 'wandb is not installed: pip install'),
        (
            ModuleNotFoundError("No module named 'foo'", name='foo'),
            "the package foo is not installed: No module named 'foo'",
        ),
        (FileNotFoundError(2, 'No such file', 'a\tb.txt'), r'a\tb.txt: No such file'),
        (OSError('no space'), 'unexpected error at <string>:1: OSError: no space'),
    ],
)
def test_errors_with_a_way_out(error, said):
    assert thrown(error).startswith(said)


@pytest.mark.parametrize('explicit', [True, False])
def test_a_missing_package_behind_another_error(explicit):
    missing = ModuleNotFoundError("No module named 'foo'", name='foo')
    error = RuntimeError('no metric')
    if explicit:
        error.__cause__ = missing
    else:
        error.__context__ = missing

    def fail():
        raise error  # outside of an except block, so that there is one link alone

    assert error_of(fail).startswith('the package foo is not installed')


def test_messages_are_cut_and_cleaned():
    assert thrown(RuntimeError('x' * 3000)).endswith(': RuntimeError: ' + 'x' * 2000)
    assert thrown(RuntimeError('a  \n\n b\x1b')).endswith(': RuntimeError: a\n b' + r'\x1b')
    assert thrown(KeyError('a', 'b')).endswith(": KeyError: ('a', 'b')")
    assert thrown(KeyError('a')).endswith(': KeyError: a')
