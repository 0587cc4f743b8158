"""What a checkpoint must hold, to the last weight: reading, starting, going on."""

import os
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import BaseLoop
from torch import nn

from mmdiffdet.engine import download, load_checkpoint_file, resume
from mmdiffdet.engine.checkpoint import check_finite, load_weights
from mmdiffdet.engine.checkpoint_guard_hook import CheckpointGuardHook, class_weights
from mmdiffdet.engine.local_backend import AtomicLocalBackend
from mmdiffdet.engine.origin_hook import OriginHook
from mmdiffdet.engine.provenance import check_origin, finished
from mmdiffdet.engine.resume import _same, check_resume


@pytest.mark.parametrize('zipped', [True, False])
def test_files_of_old_and_new_versions_of_pytorch(tmp_path, zipped):
    weights = dict(a=torch.ones(2), _metadata=dict(version=1))
    weights['head._extra_state'] = None
    path = tmp_path / 'x.pth'
    torch.save(dict(state_dict=weights), path, _use_new_zipfile_serialization=zipped)
    assert load_checkpoint_file(path)['state_dict'].keys() == weights.keys()


@pytest.mark.parametrize(
    'content, said',
    [
        (dict(a=torch.zeros(1, dtype=torch.complex64)), 'a is of type torch.complex64'),
        (dict(meta=dict(dataset_meta=dict(classes='cell'))), 'list of classes'),
        (dict(meta=dict(dataset_meta=['cell'])), 'list of classes'),
    ],
)
def test_contents_that_are_refused(tmp_path, content, said):
    meta = content.pop('meta', {})
    torch.save(dict(state_dict=dict(b=torch.zeros(1), **content), meta=meta), tmp_path / 'x.pth')
    with pytest.raises(ValueError, match=f'x.pth.*{said}'):
        load_checkpoint_file(tmp_path / 'x.pth')


def test_three_weights_that_are_not_finite_are_named():
    bad = {name: torch.tensor([1.0, float('nan')]) for name in 'abcd'}
    check_finite(dict(a=3, b=torch.tensor([-1]), c=torch.tensor([-1.0])), 'x')
    for count, shown in ((3, '(a, b, c);'), (4, '(a, b, c, ...);')):
        with pytest.raises(ValueError, match=f'x: {count} weights are not finite') as error:
            check_finite({name: bad[name] for name in 'abcd'[:count]}, 'x')
        assert shown in str(error.value)


def weights_of(*names):
    return {name: nn.Parameter(torch.zeros(1)) for name in names}


def test_five_names_of_each_kind_are_told():
    model = nn.ParameterDict(weights_of(*'abcdef'))
    with pytest.raises(ValueError, match='x.pth is of another model: .*; use y') as error:
        load_weights(model, 'x.pth', 'use y', weights_of(*'uvwxyz'))
    assert f'missing {list("abcde")}, left over {list("uvwxy")};' in str(error.value)
    for content in (weights_of('a', 'b', 'c'), weights_of('a')):  # one kind alone
        with pytest.raises(ValueError, match='of another model'):
            load_weights(nn.ParameterDict(weights_of('a', 'b')), 'x.pth', 'y', content)


class Loop(BaseLoop):
    """A loop with a data set of these classes."""

    def __init__(self, classes=('a', 'b')):
        dataset = SimpleNamespace(metainfo=dict(classes=classes))
        super().__init__(None, SimpleNamespace(dataset=dataset))

    def run(self):
        pass


def runner_of(model, training=False, classes=('a', 'b'), **changes):
    loop = Loop(classes)
    runner = SimpleNamespace(
        model=model,
        logger=Mock(),
        seed=0,
        work_dir='',
        train_dataloader=loop.dataloader,
        _load_from='x.pth',
        _resume=False,
        _train_loop=loop if training else None,
        _val_loop=None,
        _test_loop=None if training else loop,
    )
    vars(runner).update(changes)
    return runner


def guarded(runner, weights, classes=None, **options):
    meta = dict(dataset_meta=dict(classes=classes)) if classes else None
    checkpoint = dict(state_dict=weights, meta=meta)
    CheckpointGuardHook(**options).after_load_checkpoint(runner, checkpoint)
    return checkpoint['state_dict']


@pytest.mark.parametrize('missing', [1, 8, 9, 10])
def test_eight_problems_are_shown(missing):
    """And the way of a file of Detectron2 where most weights are others."""
    names = [f'w{i:02}' for i in range(16)]
    runner = runner_of(nn.ParameterDict(weights_of(*names)))
    with pytest.raises(ValueError) as error:
        guarded(runner, weights_of(*names[missing:]))
    first, *lines, way = str(error.value).split('\n')
    assert first == 'checkpoint x.pth is of another model:'
    assert lines == [f'  missing {name}' for name in names[: min(missing, 8)]] + (
        [f'  and {missing - 8} more'] if missing > 8 else []
    )
    assert ('convert_checkpoint.py' in way) == (missing > 8)  # more than half


def test_what_is_left_over_is_dropped_of_parts_alone():
    model = nn.ParameterDict(weights_of('a'))
    more = weights_of('a', 'stage_parts.x')
    assert list(guarded(runner_of(model, training=True), dict(more))) == ['a']
    for training, names in ((False, ('stage_parts.x',)), (True, ('neck.x',))):
        with pytest.raises(ValueError, match=f'left over {names[0]}'):
            guarded(runner_of(model, training), weights_of('a', *names))


def test_numbers_of_classes_are_told_if_they_differ():
    model = nn.Module()
    model.bbox_head = nn.Linear(2, 2)
    model.bbox_head.num_classes = 2
    for classes, told in (('ab', ''), ('abc', ': it has 3 classes, the config 2'), (None, '')):
        with pytest.raises(ValueError, match=f'another model{told}:\n'):
            guarded(runner_of(model), weights_of('x'), classes and list(classes))


@pytest.mark.parametrize(
    'learnt, fresh, told',
    [('ab', False, 0), ('ba', False, 1), (None, False, 0), ('ab', True, 0)],
)
def test_other_classes_are_told_when_a_training_begins(learnt, fresh, told):
    runner = runner_of(nn.ParameterDict(weights_of('w')), training=True)
    guarded(runner, weights_of('w'), learnt and list(learnt), classes_start_fresh=fresh)
    assert runner.logger.warning.call_count == told


@pytest.mark.parametrize('count', [8, 9])
def test_eight_classes_are_shown(count):
    names = list('abcdefghi')[:count]
    runner = runner_of(nn.ParameterDict(weights_of('w')), classes=['x'])
    with pytest.raises(ValueError, match='same order') as error:
        guarded(runner, weights_of('w'), names)
    end = ', ...' if count > 8 else ''
    assert f'for the classes (a, b, c, d, e, f, g, h{end}), ' in str(error.value)


def test_models_without_a_number_of_classes():
    with pytest.raises(ValueError, match='model X has no bbox_head with num_classes'):
        class_weights(dict(type='X', bbox_head={}), {})


def test_optimisers_of_other_kinds_are_left_alone():
    hook = CheckpointGuardHook()
    hook.before_train(SimpleNamespace(_resume=True, optim_wrapper=SimpleNamespace()))


# ---- going on -----------------------------------------------------------------


def content(**changes):
    return {
        **dict(
            meta=dict(epoch=0, iter=0),
            optimizer=dict(state={}, param_groups=[dict(params=[0, 1])]),
            param_schedulers=[],
            message_hub=dict(log_scalars={}, runtime_info={}, resumed_keys={}),
        ),
        **changes,
    }


def training(schedulers=()):
    wrapper = SimpleNamespace(optimizer=torch.optim.SGD(nn.Linear(2, 1).parameters(), 0.1))
    return SimpleNamespace(optim_wrapper=wrapper, param_schedulers=list(schedulers))


def groups(*sizes):
    return dict(param_groups=[dict(params=list(range(size))) for size in sizes])


@pytest.mark.parametrize(
    'changes, said',
    [
        (dict(meta=None), r'\(no meta\)'),
        (dict(meta=dict(epoch=True, iter=0)), 'meta.epoch is True, no count'),
        (dict(meta=dict(epoch=0, iter=-1)), 'meta.iter is -1, no count'),
        (dict(meta=dict(iter=1)), 'meta.epoch is None, no count'),
        (dict(message_hub=dict(runtime_info={})), 'has no log_scalars, resumed_keys;'),
        (dict(optimizer=dict(param_groups=[3])), 'has no param_groups'),
        (dict(optimizer=dict(param_groups={})), 'has no param_groups'),
        (dict(optimizer=groups(1)), 'has 1 groups of 1 parameters, this config makes 1 of 2'),
        (dict(optimizer=groups(1, 1)), 'has 2 groups of 2 parameters, this config makes 1 of 2'),
        (dict(param_schedulers=[3]), 'param_schedulers of the checkpoint has 3'),
    ],
)
def test_states_that_no_training_goes_on_from(changes, said):
    scheduler = SimpleNamespace(state_dict=dict)
    check_resume(training(), content(), 'x.pth')
    with pytest.raises(ValueError, match=said):
        check_resume(training([scheduler]), content(**changes), 'x.pth')


def test_what_is_missing_is_listed():
    with pytest.raises(ValueError, match=r'\(no optimizer, message_hub\)'):
        check_resume(training(), dict(meta={}, param_schedulers=[]), 'x.pth')


@pytest.mark.parametrize(
    'saved, told',
    [
        ([dict(gamma=0.1, last_step=9)], None),
        ([dict(gamma=0.2, last_step=9)], 'gamma 0.1, not 0.2'),
        ([dict(gamma=0.1)] * 2, '1 schedulers, not 2'),
        ([dict(other=1)], None),
        (dict(gamma=0.2), None),  # of several optimisers
    ],
)
def test_another_schedule_is_told(saved, told, monkeypatch):
    lines = []
    monkeypatch.setattr(resume, 'print_log', lambda text, *_: lines.append(text))
    scheduler = SimpleNamespace(state_dict=lambda: dict(gamma=0.1, last_step=3))
    check_resume(training([scheduler]), content(param_schedulers=saved), 'x.pth')
    assert len(lines) == (told is not None) and (told is None or told in lines[0])


def test_values_that_are_the_same():
    for a, b in (
        *((0, 0), (0.0, 0), (0.1, 0.1 * (1 + 1e-10)), (-2.0, -2), ('a', 'a'), (None, None)),
        *((100.0, 100.0 + 5e-8), ((0.9, 0.999), [0.9, 0.999]), (torch.tensor(0.5), 0.5)),
        (0.5, torch.tensor(0.5)),
    ):
        assert _same(a, b), (a, b)
    for a, b in (
        *((0, 1e-12), (0.1, 0.1 * (1 + 1e-8)), (2.0, -2.0), ('a', 'b'), (None, 0)),
        *(((0.9,), (0.9, 0.9)), ((0.9, 0.9), (0.9, 0.8)), (torch.tensor(0.5), 0.25)),
    ):
        assert not _same(a, b), (a, b)


@pytest.mark.parametrize('seed, fails', [(0, False), (None, False), (1, True)])
def test_the_train_seed_of_what_is_resumed(seed, fails):
    checkpoint = dict(meta=dict(seed=seed, origin=dict(path='a')))
    for loop, resumed in ((False, True), (True, True)):
        hook = OriginHook()
        runner = runner_of(None, training=loop, _resume=resumed)
        if fails and loop:
            with pytest.raises(ValueError, match='with train seed 1, this one has 0'):
                hook.after_load_checkpoint(runner, checkpoint)
        else:
            hook.after_load_checkpoint(runner, checkpoint)
            assert hook.origin == (dict(path='a') if loop else None)


def test_a_training_has_ended_if_its_last_checkpoint_was_written(tmp_path):
    (tmp_path / 'iter_4.pth').touch()
    mark = tmp_path / 'last_checkpoint'
    assert not finished(str(tmp_path / 'iter_4.pth'))
    for said, file, wanted in (
        ('elsewhere/iter_4.pth', 'iter_4.pth', True),
        ('iter_2.pth', 'iter_4.pth', False),
        ('iter_2.pth', 'iter_2.pth', False),  # which is not there
    ):
        mark.write_text(said + '\n')
        assert finished(str(tmp_path / file)) == wanted


def test_another_teacher_is_another_training(tmp_path):
    """Not one that computes in another precision."""
    hook = dict(type='SamplerDistillHook', teacher=dict(checkpoint='a.pth', precision='fp32'))
    cfg = Config(
        dict(
            model=dict(type='X'),
            work_dir=str(tmp_path),
            custom_hooks=[hook, dict(type='NumClassCheckHook')],
        )
    )
    check_origin(cfg, 0)  # there is nothing yet
    torch.save(dict(meta=dict(seed=0, cfg=cfg.pretty_text)), tmp_path / 'iter_1.pth')
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_1.pth'))
    cfg.custom_hooks[0].teacher.precision = 'bf16'
    cfg.custom_hooks.pop()
    check_origin(cfg, 0)
    cfg.custom_hooks[0].teacher.checkpoint = 'b.pth'
    with pytest.raises(RuntimeError, match='distillation is another. Remove'):
        check_origin(cfg, 0)
    with pytest.raises(RuntimeError, match='its train seed is 0; distillation'):
        check_origin(cfg, 1)


# ---- files --------------------------------------------------------------------


@pytest.mark.parametrize('rank, order', [(0, 'fetch wait fetch'), (1, 'wait fetch')])
def test_the_first_process_downloads_for_the_others(rank, order, monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(download, 'get_dist_info', lambda: (rank, 2))
    monkeypatch.setattr(download, 'barrier', lambda: seen.append('wait'))
    monkeypatch.setattr(download, '_fetch', lambda url, path: seen.append('fetch'))
    path = download.download('https://host/a/net.pth?x=1', str(tmp_path))
    assert seen == order.split() and path.parent == tmp_path
    assert path.name.startswith('net-') and path.suffix == '.pth'


def test_a_download_is_silent(tmp_path, capfd):
    (tmp_path / 'a.pth').write_bytes(b'weights')
    download._fetch((tmp_path / 'a.pth').as_uri(), tmp_path / 'new/b.pth')
    assert (tmp_path / 'new/b.pth').read_bytes() == b'weights'
    assert capfd.readouterr() == ('', '')


def test_a_file_is_written_whole_or_not(tmp_path, monkeypatch):
    backend, path = AtomicLocalBackend(), tmp_path / 'new/folder/x.pth'
    backend.put(b'first', path)
    backend.put(b'second', path)
    assert path.read_bytes() == b'second'
    with monkeypatch.context() as patch:
        patch.setattr(type(path), 'write_bytes', Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            backend.put(b'third', path)
    assert path.read_bytes() == b'second' and list(path.parent.iterdir()) == [path]


def test_a_pipe_is_written_to_and_not_replaced(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    reader = os.open(tmp_path / 'pipe', os.O_RDONLY | os.O_NONBLOCK)
    AtomicLocalBackend().put(b'bytes', tmp_path / 'pipe')
    assert os.read(reader, 9) == b'bytes' and (tmp_path / 'pipe').is_fifo()
    os.close(reader)
