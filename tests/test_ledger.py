"""Rows, and the file that several processes append to."""

import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock
from ledger_rows import ROW

from mmdiffdet.ledger import (
    Ledger,
    Protocol,
    sha256_of_config,
    sha256_of_file,
)
from mmdiffdet.ledger.row import COLUMNS

ROOT = Path(__file__).parents[1]


def test_row_survives_the_file_to_the_last_digit(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / 'new' / 'ledger.tsv')
    assert ledger.read() == []
    assert ledger.append([ROW]) == ([ROW], [])
    assert ledger.read() == [ROW]
    assert ROW.AP == 46.1 + 0.2 and ROW.APs is None and ROW.APm is None
    assert 'nan' not in ledger.path.read_text()
    unknown = replace(ROW, train_seed=None, eta=None, eval_seed=1)
    ledger.append([unknown])
    assert ledger.read() == [ROW, unknown]


@pytest.mark.parametrize(
    'name, value, message',
    [
        ('AP', None, 'AP is missing'),
        ('AP', float('nan'), 'AP is missing'),
        ('AP50', 4600, 'AP50 must be from 0 to 100'),
        ('APl', -3, 'APl must be from 0 to 100'),
        ('eval_seed', 1.5, 'eval_seed must be an integer'),
        ('eval_seed', None, 'eval_seed is missing'),
        ('sample_step', 0, 'sample_step must be finite and at least 1'),
        ('eta', float('inf'), 'eta must be finite'),
        ('exp_name', 'a\tb', 'exp_name must not hold a tab'),
        ('exp_name', 'a\x1b[31mb', r'control character: .a.x1b.31mb'),
        ('exp_name', 'a\u202eb', 'control character'),
        ('exp_name', 'a\udc80b', 'control character'),
        ('exp_name', '=HYPERLINK("x")', 'exp_name must not begin with =, which spreadsheets'),
        ('checkpoint', '-1+2', 'checkpoint must not begin with -'),
        ('train_seed', 2**70, 'train_seed must be below 2..63'),
        ('ledger_version', 2, 'ledger_version is 2, this package reads 1'),
        ('exp_name', 'n/a', 'exp_name must be text'),
        ('checkpoint', Path('x'), 'checkpoint must be text'),
        ('checkpoint_sha256', 'abc', 'checkpoint_sha256 must be the 64'),
        ('time', 'yesterday', 'time '),
    ],
)
def test_bad_value_is_named(name: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(ROW, **{name: value})


def test_known_test_is_skipped_or_replaced(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / 'ledger.tsv')
    other = replace(ROW, eval_seed=1)
    again = replace(ROW, AP=10.0)
    ledger.append([ROW, other])
    assert ledger.append([again]) == ([], [again])
    assert ledger.read() == [ROW, other]
    assert ledger.append([again], force=True) == ([again], [])
    assert ledger.read() == [again, other]


@pytest.mark.parametrize(
    'change',
    [
        dict(checkpoint_sha256='d' * 64),
        dict(config_sha256='d' * 64),
        dict(eval_seed=7),
        dict(sample_step=4),
        dict(scheduler='DPMSolverMultistepScheduler'),
        dict(eta=0.0),
        dict(precision='bf16'),
        dict(annotation_sha256='d' * 64),
    ],
)
def test_another_test_is_not_taken_for_done(tmp_path: Path, change: dict) -> None:
    ledger = Ledger(tmp_path / 'ledger.tsv')
    other = replace(ROW, **change)
    ledger.append([ROW])
    assert ledger.find([ROW.key, other.key]) == {ROW.key: ROW}
    assert ledger.append([other]) == ([other], [])


def test_rows_that_were_there_twice_are_kept(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / 'ledger.tsv')
    ledger.append([ROW])
    line = '\t'.join(replace(ROW, AP=1.0).cells())
    ledger.path.write_text(f'{ledger.path.read_text()}{line}\n')
    ledger.append([replace(ROW, eval_seed=1)])
    assert [row.AP for row in ledger.read()] == [ROW.AP, 1.0, ROW.AP]
    ledger.append([ROW], force=True)
    assert [row.AP for row in ledger.read()] == [ROW.AP, ROW.AP]


@pytest.mark.parametrize(
    'text, message',
    [
        ('', ':1: not a ledger'),
        ('eval_seed\tAP\n0\t40\n', ':1: not a ledger'),
        ('\t'.join(COLUMNS) + '\nbase\t0\n', ':2: has 2 columns instead of'),
        (
            '\t'.join(COLUMNS) + '\n' + '\t'.join(ROW.cells()).replace('46.3', '46,3'),
            ':2: AP could not',
        ),
    ],
)
def test_foreign_or_broken_file_is_left_alone(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / 'ledger.tsv'
    path.write_text(text)
    with pytest.raises(ValueError, match=f'{path.name}{message}'):
        Ledger(path).append([ROW])
    assert path.read_text() == text


def test_older_ledgers_have_no_version(tmp_path: Path) -> None:
    """They have exactly the other columns, and get it with the next row."""
    ledger = Ledger(tmp_path / 'ledger.tsv')
    ledger.append([ROW])
    lines = ledger.path.read_text().splitlines()
    assert [line.rsplit('\t', 1)[1] for line in lines] == ['ledger_version', '1']
    ledger.path.write_text(''.join(line.rsplit('\t', 1)[0] + '\n' for line in lines))
    assert ledger.read() == [ROW]
    ledger.append([replace(ROW, eval_seed=1)])
    assert ledger.path.read_text().splitlines()[:2] == lines
    ledger.path.write_text(ledger.path.read_text().replace('\t1\n', '\t2\n'))
    with pytest.raises(ValueError, match='ledger.tsv:2: ledger_version is 2'):
        ledger.append([ROW])


def test_a_byte_order_mark_and_other_line_ends_are_no_content(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / 'ledger.tsv')
    ledger.append([ROW])
    text = ledger.path.read_bytes()
    ledger.path.write_bytes(b'\xef\xbb\xbf' + text.replace(b'\n', b'\r\n'))
    assert ledger.read() == [ROW]
    ledger.append([replace(ROW, eval_seed=1)])
    assert ledger.path.read_bytes().startswith(text)


def test_a_symbolic_link_stands_for_its_file(tmp_path: Path) -> None:
    (tmp_path / 'there').mkdir()
    link, real = tmp_path / 'link.tsv', tmp_path / 'there/ledger.tsv'
    link.symlink_to('there/ledger.tsv')
    Ledger(link).append([ROW])
    Ledger(real).append([replace(ROW, eval_seed=1)])
    assert link.is_symlink() and Ledger(link).read() == Ledger(real).read()
    assert len(Ledger(real).read()) == 2
    assert not (tmp_path / 'link.tsv.lock').exists()  # one lock for both names


def test_other_things_than_files_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / 'pipe')
    for path in (tmp_path / 'pipe', tmp_path, Path(os.devnull)):
        if path.exists():
            with pytest.raises(ValueError, match=f'{path}: not a regular file'):
                Ledger(path).read()


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    left, others = tmp_path / '.ledger-ab12_xyz.tsv', ['.ledger-2-ab12_xyz.tsv', 'ledger-x.tsv']
    for name in (left.name, *others):
        (tmp_path / name).write_text('half')
    Ledger(tmp_path / 'ledger.tsv').append([ROW])
    assert not left.exists() and all((tmp_path / name).exists() for name in others)


def test_a_lock_that_is_not_free_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And waited for: a row of hours is not thrown away."""
    monkeypatch.setattr('mmdiffdet.ledger.ledger.PATIENCE', 0.05)
    ledger = Ledger(tmp_path / 'ledger.tsv')
    taken = threading.Event()

    def hold() -> None:
        with FileLock(f'{ledger.path}.lock'):
            taken.set()
            time.sleep(0.5)

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait()
    told = r'waiting for .*ledger.tsv.lock, which another process holds.*end that process'
    with pytest.warns(UserWarning, match=told) as warned:
        ledger.append([ROW])
    thread.join()
    assert warned[0].filename == __file__  # whoever appends
    assert ledger.read() == [ROW]


def test_nothing_is_written_if_a_row_fails(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / 'ledger.tsv')
    ledger.append([ROW])
    before = ledger.path.read_bytes()

    def rows():
        yield replace(ROW, eval_seed=1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ledger.append(rows())
    assert ledger.path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ['ledger.tsv', 'ledger.tsv.lock']


WRITER = """
import sys
from dataclasses import replace
from mmdiffdet.ledger import Ledger
sys.path.insert(0, 'tests')
from ledger_rows import ROW
ledger = Ledger(sys.argv[1])
sys.stdin.readline()
done = [ledger.append([replace(ROW, eval_seed=s)])
        for s in range(int(sys.argv[2]), int(sys.argv[3]))]
print(sum(len(d.written) for d in done))
"""


def test_two_processes_lose_no_row(tmp_path: Path) -> None:
    """Though one of them knows the file by another name."""
    path = tmp_path / 'ledger.tsv'
    link = tmp_path / 'link.tsv'
    link.symlink_to(path)
    writers = [
        subprocess.Popen(
            [sys.executable, '-c', WRITER, name, *seeds],
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for name, seeds in ((path, ('0', '30')), (link, ('20', '50')))
    ]
    for writer in writers:
        writer.stdin.write('\n')
        writer.stdin.flush()
    written = sum(int(writer.communicate()[0]) for writer in writers)
    seeds = [row.eval_seed for row in Ledger(path).read()]
    assert sorted(seeds) == list(range(50))
    assert written == 50


def test_protocol_tells_what_differs() -> None:
    known = Protocol(sample_step=1, eta=0.0)
    assert known.differs(Protocol(sample_step=4)) == {'sample_step': (1, 4), 'eta': (0.0, None)}
    assert {known: 1}[Protocol(sample_step=1, eta=0.0)] == 1
    assert 'sample_step=1; eta=0.0; not recorded: model_family' in str(known)


def test_an_eta_that_a_scheduler_has_not_is_not_missing() -> None:
    assert 'eta' in Protocol(sample_step=1).unrecorded
    assert 'eta' in Protocol(scheduler='DDIMScheduler').unrecorded
    assert 'eta' in Protocol(scheduler='ddim').unrecorded  # another system's
    other = Protocol(scheduler='UniPCMultistepScheduler')
    assert 'eta' not in other.unrecorded


def test_hashes(tmp_path: Path) -> None:
    path = tmp_path / 'file'
    path.write_bytes(b'abc')
    assert sha256_of_file(path).startswith('ba7816bf8f01cfea414140de5dae2223')
    first = sha256_of_config(dict(a=dict(x=1, y=(1, 2)), b=None))
    assert first == sha256_of_config(dict(b=None, a=dict(y=[1, 2], x=1)))
    assert first != sha256_of_config(dict(b=None, a=dict(y=[2, 1], x=1)))
    with pytest.raises(TypeError, match='is of type PosixPath'):
        sha256_of_config(dict(a=Path('x')))


def test_no_torch_is_needed() -> None:
    code = (
        'import sys, mmdiffdet.ledger.verify, mmdiffdet.reports.page\n'
        'import mmdiffdet.ledger.plan, mmdiffdet.convert.detectron2_tables\n'
        'assert not {"torch", "mmengine", "mmdet"} & set(sys.modules)'
    )
    subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=True)
