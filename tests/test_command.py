"""What all command lines share, and small helpers for files and text."""

import io
import logging
import os
import runpy
import sys
from types import SimpleNamespace

import pytest
from mmengine.logging import MMLogger

from mmdiffdet.__main__ import main, tools
from mmdiffdet.command import _nobody_reads, add_common_arguments, make_parser, run_command
from mmdiffdet.utils import atomic_folder, atomic_path, leaf_datasets, printable


@pytest.fixture
def parser():
    found = make_parser('x')
    add_common_arguments(found)
    return found


def test_pairs_become_options(parser):
    assert vars(parser.parse_args([])) == dict(
        traceback=False,
        train_seed=None,
        part=[],
        work_dir=None,
        cfg_options=None,
        launcher='none',
        local_rank=0,
    )
    argv = ['--cfg-options', 'a.b=1', 'c=[1,2]', '--cfg-options', 'd=x=y']
    assert parser.parse_args(argv).cfg_options == {'a.b': 1, 'c': [1, 2], 'd': 'x=y'}


@pytest.mark.parametrize(
    'pairs, said',
    [
        *((pair, 'must be KEY=VALUE') for pair in ('abc', '=3', 'a..b=1', '.a=1', 'a.=1')),
        ('a=1 a=2', 'a is given twice'),
        ('a=[(1]', 'brackets do not match'),
    ],
)
def test_what_is_no_pair(parser, capsys, pairs, said):
    with pytest.raises(SystemExit) as end:
        parser.parse_args(['--cfg-options', *pairs.split()])
    assert end.value.code == 2 and said in capsys.readouterr().err


def fail():
    {}['key']


WHERE = f'ERROR: unexpected error at test_command.py:{fail.__code__.co_firstlineno + 1}: '


def said_by(capsys, call=fail, argv=()):
    with pytest.raises(SystemExit) as end:
        run_command(call, argv)
    assert end.value.code == 1
    return capsys.readouterr().err


def test_the_traceback_goes_into_the_log(tmp_path, monkeypatch, capsys):
    """Into the first that can be written; without one the line tells how to see it."""
    logger = SimpleNamespace(handlers=[])
    monkeypatch.setattr(MMLogger, '_instance_dict', dict(a=logger))
    hint = 'KeyError: key (--traceback shows where it came from)\n'
    assert said_by(capsys) == WHERE + hint
    broken, good = (logging.FileHandler(tmp_path / name) for name in ('a.log', 'b.log'))
    broken.baseFilename = str(tmp_path)  # a folder
    logger.handlers = [logging.StreamHandler(), broken]
    assert said_by(capsys) == WHERE + hint
    logger.handlers.append(good)
    hint = f'KeyError: key (its traceback is in {tmp_path}/b.log)\n'
    assert said_by(capsys) == WHERE + hint
    good.close()
    broken.close()
    text = (tmp_path / 'b.log').read_text()
    assert text.startswith('Traceback (most recent') and text.endswith("KeyError: 'key'\n")


def test_the_arguments_of_the_process_are_read_without_others(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['tool.py', '--traceback'])
    told = said_by(capsys, argv=None)
    assert 'Traceback (most recent' in told and told.endswith(WHERE + 'KeyError: key\n')


def test_an_interrupt_has_its_exit_code():
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as end:
        run_command(interrupted, [])
    assert end.value.code == 130


def test_a_pipe_to_somebody_else_that_breaks_is_told(capsys):
    def breaks():
        raise BrokenPipeError('of a child')

    assert 'BrokenPipeError: of a child' in said_by(capsys, breaks)


def test_whether_a_reader_has_gone():
    read, write = os.pipe()
    with os.fdopen(write, 'w') as stream:
        assert not _nobody_reads(stream)
        os.close(read)
        assert _nobody_reads(stream)
    assert not _nobody_reads(io.StringIO())


def test_one_of_several_processes_ends_at_once(monkeypatch):
    """But with the code of a failure in the ordinary way."""
    ended = []
    monkeypatch.setattr(os, '_exit', ended.append)
    monkeypatch.setattr(logging, 'shutdown', lambda: None)
    monkeypatch.setenv('WORLD_SIZE', '1')
    run_command(lambda: None, [])
    assert ended == []
    monkeypatch.setenv('WORLD_SIZE', '2')
    with pytest.raises(SystemExit) as end:
        run_command(lambda: 3, [])
    assert end.value.code == 3 and ended == []
    run_command(lambda: None, [])
    assert ended == [0]


def test_a_log_line_that_cannot_be_written_is_no_traceback(monkeypatch, capsys):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError('no space left')

    logger, handler = logging.getLogger('full'), logging.StreamHandler(Full())
    monkeypatch.setattr(logger, 'propagate', False)
    monkeypatch.setattr(logging, 'raiseExceptions', True)
    logger.addHandler(handler)
    run_command(lambda: logger.error('x'), [])
    logger.removeHandler(handler)
    assert capsys.readouterr().err == ''


def test_tools_by_name(monkeypatch, capsys):
    found = tools()
    assert {path.suffix for path in found.values()} == {'.py', '.sh'}
    assert all(path.is_file() for path in found.values()) and 'setup_venv' not in found
    seen = []

    def execute(*arguments):
        seen.append(arguments)
        raise SystemExit(0)

    monkeypatch.setattr(os, 'execvp', execute)
    monkeypatch.setenv('PATH', '/bin')
    monkeypatch.setattr(sys, 'argv', ['mmdiffdet', 'dist_train', 'c.py', '2'])
    with pytest.raises(SystemExit):
        main()
    assert seen == [('bash', ['bash', str(found['dist_train']), 'c.py', '2'])]
    # the scripts call python
    assert os.environ['PATH'] == f'{os.path.dirname(sys.executable)}{os.pathsep}/bin'
    monkeypatch.setattr(runpy, 'run_path', lambda *a, **k: seen.append((a, k, sys.argv)))
    monkeypatch.setattr(sys, 'argv', ['mmdiffdet', 'train', 'c.py'])
    main()
    path = str(found['train'])
    assert seen[1:] == [((path,), dict(run_name='__main__'), [path, 'c.py'])]
    monkeypatch.setattr(sys, 'argv', ['mmdiffdet'])
    main()
    assert 'Tools: ' in capsys.readouterr().out


def test_written_files_have_the_rights_that_the_mask_leaves(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_path(tmp_path / 'a.txt') as path:
            path.write_text('x')
        with atomic_folder(tmp_path / 'b') as folder:
            (folder / 'c').touch()
    finally:
        os.umask(before)
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ('a.txt', 'b')]
    assert modes == [0o640, 0o750]


def test_text_on_one_line():
    assert printable('a\tb\nc\x1b[0m\u00e9') == r'a\tb\nc\x1b[0m' + '\u00e9'


def test_data_sets_within_wrappers():
    a, b, c = dict(type='A'), dict(type='B'), dict(type='C')
    cfg = dict(datasets=[dict(dataset=a), dict(datasets=[b, dict(dataset=dict(dataset=c))])])
    assert leaf_datasets(cfg) == [a, b, c] and leaf_datasets(a) == [a]
