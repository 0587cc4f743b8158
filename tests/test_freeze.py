"""Deliverables: what they rest on, and that a change is found."""

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Callable, List

import pytest
from ledger_rows import ROW, experiments_of, table_of

from mmdiffdet.ledger import Ledger, sha256_of_file
from mmdiffdet.ledger.freeze import freeze
from mmdiffdet.ledger.hashing import sha256s_of_tests
from mmdiffdet.ledger.verify import verify
from mmdiffdet.utils import atomic_folder

ROOT = Path(__file__).parents[1]

TEST = """
# stands in for tools/test.py: same command line, same ledger
import argparse, json, os
from mmdiffdet.ledger import Ledger, Row
parser = argparse.ArgumentParser()
parser.add_argument('config')
parser.add_argument('checkpoint')
parser.add_argument('--eval-seeds', nargs='+', type=int)
parser.add_argument('--steps', type=int)
parser.add_argument('--ledger')
parser.add_argument('--work-dir')
args = parser.parse_args()
if 'FAIL' in os.environ:
    raise SystemExit(3)
from dataclasses import replace
for row in Ledger(os.environ['ORIGINAL']).read():
    if row.eval_seed in args.eval_seeds and open(
            args.config).read() == open(row.out_dir + '/config.py').read():
        change = json.loads(os.environ.get('CHANGE', '{}'))
        change = {k: row.AP + v if k == 'AP' else v
                  for k, v in change.items()}
        Ledger(args.ledger).append([replace(
            row, sample_step=args.steps, checkpoint=args.checkpoint,
            out_dir=args.work_dir, **change)])
"""


CONFIG = """
model = dict(
    type='DiffusionDet',
    backbone=dict(depth=50),
    sampler=dict(type='DiffusionSampler', scheduler=dict(type='DDIMScheduler'), renewal=0.5))
test_dataloader = dict(dataset=dict(type='CocoDataset', pipeline=[]))
test_cfg = dict(variants=[dict(sampling_timesteps=1), dict(renewal=None, num_proposals=9)])
"""


@pytest.fixture
def frozen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A deliverable of 2 train seeds x 3 eval seeds, and its sources."""
    rows = []
    for train in range(2):
        out_dir = tmp_path / f'run{train}'
        out_dir.mkdir()
        checkpoint = out_dir / f'last{train}.pth'
        checkpoint.write_bytes(bytes([train] * 10))
        (out_dir / 'config.py').write_text(f'{CONFIG}seed = {train}\n')
        rows += [
            replace(
                ROW,
                train_seed=train,
                eval_seed=seed,
                checkpoint=str(checkpoint),
                checkpoint_sha256=sha256_of_file(checkpoint),
                config_sha256=sha256s_of_tests(CONFIG)[0],
                AP=40 + train + 0.1 * seed,
                out_dir=str(out_dir),
            )
            for seed in range(3)
        ]
    ledger = tmp_path / 'ledger.tsv'
    Ledger(ledger).append(rows)
    (tmp_path / 'test.py').write_text(TEST)
    monkeypatch.setenv('ORIGINAL', str(ledger))
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    freeze(experiments_of(ledger), tmp_path / 'out' / 'name')
    return tmp_path / 'out' / 'name'


def _command(frozen: Path) -> List[str]:
    return [sys.executable, str(frozen.parents[1] / 'test.py')]


def test_folder_is_complete_and_verifies(frozen: Path) -> None:
    assert sorted(p.relative_to(frozen).as_posix() for p in frozen.rglob('*') if p.is_file()) == [
        'SHA256SUMS',
        'configs/000.py',
        'configs/001.py',
        'environment.json',
        'manifest.tsv',
        'runs.tsv',
    ]
    manifest = (frozen / 'manifest.tsv').read_text().splitlines()
    assert manifest[2].split('\t')[:6] == ['base', '1', '0,1,2', '3', '41.100000', '0.081650']
    result = verify(frozen)
    assert result.problems == []
    assert result.checked == ['5 files', '6 rows of 2 models', '2 checkpoints']
    subprocess.run(['sha256sum', '--quiet', '-c', 'SHA256SUMS'], cwd=frozen, check=True)


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def _sum_again(folder: Path) -> None:
    """As somebody who wants to hide a change would do."""
    lines = (folder / 'SHA256SUMS').read_text().splitlines()
    names = [line.split('  ')[1] for line in lines]
    (folder / 'SHA256SUMS').write_text(
        ''.join(f'{sha256_of_file(folder / n)}  {n}\n' for n in names)
    )


def _link(path: Path, to: Path) -> None:
    path.symlink_to(to)


def _swap(folder: Path) -> None:
    a, b, c = (folder / f'configs/{name}.py' for name in ('000', '001', 'between'))
    a.rename(c), b.rename(a), c.rename(b)


def _drop_row(folder: Path) -> None:
    lines = (folder / 'runs.tsv').read_text().splitlines(True)
    (folder / 'runs.tsv').write_text(''.join(lines[:-1]))


def _drop_model(folder: Path) -> None:
    lines = (folder / 'manifest.tsv').read_text().splitlines(True)
    (folder / 'manifest.tsv').write_text(''.join(lines[:-1]))
    _sum_again(folder)


@pytest.mark.parametrize(
    'change, found',
    [
        (lambda f: _flip(f / 'configs/001.py'), '001.py has changed'),
        (lambda f: _flip(f / 'environment.json'), 'environment.json has changed'),
        (lambda f: _flip(f.parents[1] / 'run1/last1.pth'), 'last1.pth has ch'),
        (lambda f: (f.parents[1] / 'run0/last0.pth').unlink(), 'is missing'),
        (lambda f: (f / 'configs/000.py').unlink(), '000.py is missing'),
        (lambda f: (f / 'runs.tsv').unlink(), 'runs.tsv is missing'),
        (lambda f: (f / 'more.txt').write_text('x'), 'more.txt is not listed'),
        (
            lambda f: (
                (f / 'configs/000.py').replace(f / '0') and _link(f / 'configs/000.py', f / '0')
            ),
            '000.py is a link',
        ),
        (lambda f: _link(f / 'more', f / 'configs'), 'more is a link'),
        (lambda f: (f / 'more').mkdir(), 'more is an empty folder'),
        (_swap, '001.py has changed'),
        (_drop_row, 'runs.tsv has changed'),
        (lambda f: (_drop_row(f), _sum_again(f)), 'eval_seeds is 0,1,2'),
        (_drop_model, 'the line of a model is missing'),
        (
            lambda f: (_edit(f / 'runs.tsv', '\t41.1\t', '\t41.2\t'), _sum_again(f)),
            'AP_mean is 41.100000',
        ),
        (
            lambda f: (_edit(f / 'manifest.tsv', '41.100000', '41.900000'), _sum_again(f)),
            'manifest.tsv:3: AP_mean is 41.900000, the runs in runs.tsv give 41.100000',
        ),
        (
            lambda f: ([_drop_row(f) for _ in range(3)], _sum_again(f)),
            'manifest.tsv:3: runs.tsv holds no run of this model',
        ),
        (
            lambda f: (_edit(f / 'configs/001.py', 'depth=50', 'depth=18'), _sum_again(f)),
            '001.py is not the config that was tested: its model and test settings have not the',
        ),
        (
            lambda f: ((f / 'configs/001.py').write_text('import os'), _sum_again(f)),
            '001.py is no dumped config',
        ),
        (
            lambda f: (_edit(f / 'runs.tsv', '\t41.1\t', '\tx\t'), _sum_again(f)),
            'runs.tsv:6: AP could not',
        ),
    ],
)
def test_change_is_found(frozen: Path, change: Callable[[Path], object], found: str) -> None:
    change(frozen)
    problems = verify(frozen).problems
    assert any(found in problem for problem in problems), problems


def test_digest_finds_what_was_changed_everywhere(frozen: Path) -> None:
    digest = verify(frozen).digest
    assert verify(frozen, digest=digest).problems == []
    _edit(frozen / 'environment.json', 'Some CPU', 'Fast CPU')
    _sum_again(frozen)
    assert verify(frozen).problems == []
    (problem,) = verify(frozen, digest=digest).problems
    assert f'instead of {digest}' in problem


@pytest.mark.parametrize(
    'change, fail, found',
    [
        ('{}', False, ''),
        ('{"AP": 1e-9}', False, 'allowed is a difference of 0.0 on the same'),
        ('{"AP": 0.04, "device": "GPU"}', False, ''),
        ('{"AP": 0.06, "device": "GPU"}', False, 'difference of 0.05 on another'),
        ('{"AP": 0.06, "torch": "2.9"}', False, 'difference of 0.05 on another'),
        ('{"APl": null, "torch": "2.9"}', False, 'APl is None instead of 60.25'),
        ('{"eta": 0.5}', False, 'no result of its protocol'),
        ('{}', True, 'failed with status 3'),
    ],
)
def test_rerun(
    frozen: Path, monkeypatch: pytest.MonkeyPatch, change: str, fail: bool, found: str
) -> None:
    monkeypatch.setenv('CHANGE', change)
    if fail:
        monkeypatch.setenv('FAIL', '1')
    result = verify(frozen, 2, _command(frozen), tolerance=0.05)
    assert result.checked[-1] == '2 reruns'
    # one of each model, not two of the first
    assert len(result.problems) == (2 if found else 0)
    assert all(found in problem for problem in result.problems)
    assert not found or all(f'train seed {i},' in p for i, p in enumerate(result.problems))


@pytest.mark.parametrize('change, problems', [(0.09, 0), (0.11, 1)])
def test_elsewhere_a_tenth_of_a_point_is_allowed(
    frozen: Path, monkeypatch: pytest.MonkeyPatch, change: float, problems: int
) -> None:
    monkeypatch.setenv('CHANGE', f'{{"AP": {change}, "device": "GPU"}}')
    assert len(verify(frozen, 1, _command(frozen)).problems) == problems


def test_checkpoints_may_have_moved(frozen: Path, tmp_path: Path) -> None:
    moved = tmp_path / 'moved'
    moved.mkdir()
    for path in tmp_path.glob('run?/*.pth'):
        path.rename(moved / path.name)
    assert len(verify(frozen).problems) == 2
    result = verify(frozen, 1, _command(frozen), checkpoints=moved)
    assert result.problems == []


@pytest.mark.parametrize(
    'break_it, error, message',
    [
        (
            lambda t: [p.unlink() for p in (t / 'run0/last0.pth', t / 'run1/config.py')],
            FileNotFoundError,
            r'last0.pth, .*run1/config.py',
        ),
        (lambda t: _flip(t / 'run0/last0.pth'), ValueError, 'is not the file'),
        (
            lambda t: _edit(t / 'run1/config.py', 'depth=50', 'depth=18'),
            ValueError,
            'run1/config.py is not the config that was tested',
        ),
        (lambda t: (t / 'again').mkdir(), FileExistsError, 'exists'),
    ],
)
def test_freeze_refuses(frozen: Path, break_it: Callable, error: type, message: str) -> None:
    root = frozen.parents[1]
    break_it(root)
    before = sorted(root.iterdir())
    with pytest.raises(error, match=message):
        freeze(experiments_of(root / 'ledger.tsv'), root / 'again')
    assert sorted(root.iterdir()) == before


def test_folders_above_a_deliverable_are_made(frozen: Path) -> None:
    folder = frozen.parents[1] / 'far/away/name'
    digest = freeze(experiments_of(frozen.parents[1] / 'ledger.tsv'), folder)
    assert verify(folder, digest=digest).problems == []
    assert {p.name for p in folder.iterdir()} == {p.name for p in frozen.iterdir()}


def test_freeze_refuses_foreign_rows(tmp_path: Path) -> None:
    table = table_of(tmp_path / 'x_seed0_step1_results.tsv', 'eval_seed\tAP\n0\t40')
    with pytest.raises(ValueError, match='no row of a ledger of ours'):
        freeze(experiments_of(table), tmp_path / 'out')
    with pytest.raises(ValueError, match='there are no rows'):
        freeze([], tmp_path / 'out')


_KILLED = """
import os, signal, sys
from mmdiffdet.utils import atomic_folder
with atomic_folder(sys.argv[1]) as folder:
    (folder / 'configs').mkdir()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_freeze_left_is_cleaned(frozen: Path) -> None:
    killed = subprocess.run([sys.executable, '-c', _KILLED, str(frozen.parent / 'other')])
    assert killed.returncode == -signal.SIGKILL
    (left,) = frozen.parent.glob('.other-*')
    with atomic_folder(frozen.parent / 'another') as at_work:
        freeze(experiments_of(frozen.parents[1] / 'ledger.tsv'), frozen.parent / 'other')
        assert not left.exists() and at_work.exists()
    assert sorted(p.name for p in frozen.parent.iterdir()) == ['another', 'name', 'other']


def test_tools(frozen: Path) -> None:

    def run(tool: str, *args: object) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, f'tools/{tool}.py', *map(str, args)],
            cwd=ROOT,
            text=True,
            capture_output=True,
        )

    root = frozen.parents[1]
    command = (
        'freeze',
        'mine',
        '--rows',
        root / 'ledger.tsv',
        '--select',
        'base',
        '--out',
        root / 'new',
    )
    made = run(*command)
    assert made.returncode == 0, made.stderr
    digest = made.stdout.split()[-1]
    good = run('verify', root / 'new/mine', '--digest', digest)
    assert (good.returncode, good.stderr) == (0, '')
    assert digest in good.stdout
    again = run(*command)
    assert again.returncode == 1 and 'choose another name' in again.stderr
    careless = run('verify', root / 'new/mine', '--tolerance', 'nan')
    assert careless.returncode == 2 and '--tolerance' in careless.stderr
    _flip(root / 'new/mine/configs/000.py')
    asked = run('verify', root / 'new/mine', '--rerun', 1)
    assert asked.returncode == 2 and 'read them, then add --trust' in asked.stderr
    bad = run('verify', root / 'new/mine', '--rerun', 1, '--trust')
    assert bad.returncode == 1
    assert '000.py has changed' in bad.stderr
    assert 'nothing was rerun' in bad.stderr
    none = run('verify', root)
    assert none.returncode == 1 and 'is no deliverable' in none.stderr


def test_another_sampler_is_another_test():
    """A class of a user's own with the options of ours has rows of its own."""
    other = CONFIG.replace('DiffusionSampler', 'MySampler')
    assert not set(sha256s_of_tests(CONFIG)) & set(sha256s_of_tests(other))
    scoped = CONFIG.replace('DiffusionSampler', 'mmdiffdet.DiffusionSampler')
    assert sha256s_of_tests(CONFIG) == sha256s_of_tests(scoped)
