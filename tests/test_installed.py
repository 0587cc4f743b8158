"""The package as a wheel, in a folder without the clone."""

import os
import shutil
import subprocess
import sys
import zipfile

import pytest
from tiny import ROOT

USER = """
import mmdiffdet.engine
from mmdiffdet.config.file import find_config, read_config
from mmdiffdet.engine.recipe import recipe
from mmdiffdet.engine.require_checkpoint import require_checkpoint
from mmdiffdet.paths import CONFIGS
assert mmdiffdet.__file__.startswith(FOLDER) and str(CONFIGS).startswith(FOLDER)
for name in ('mmdiffdet::bccd/bccd.py', 'configs/bccd/bccd.py'):
    assert find_config(name) == str(CONFIGS / 'bccd/bccd.py')
cfg = read_config('mine.py', 3)
assert cfg.model.type == 'DiffusionDet' and cfg.work_dir == 'work_dirs/mine_seed3'
assert cfg.model.test_cfg.num_proposals == 7
stages = recipe('demo', 0)
assert [s.checkpoint for s in stages][:1] == ['work_dirs/demo_seed0/iter_300.pth']
try:
    require_checkpoint('work_dirs/bccd_seed1/iter_1400.pth', 'load_from')
except FileNotFoundError as error:
    assert 'mmdiffdet train configs/bccd/bccd.py --train-seed 1' in str(error), error
try:
    find_config('configs/bccd/bcd.py')
except FileNotFoundError as error:
    assert 'did you mean configs/bccd/bccd.py' in str(error), error
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """An empty folder beside what an installation unpacks."""
    root = tmp_path_factory.mktemp('wheel')
    # a build leaves files behind, and takes those of an earlier one
    for name in ('mmdiffdet', 'configs', 'tools', 'setup.py', 'README.md', 'pyproject.toml'):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, root / 'clone' / name, symlinks=True)
        else:
            shutil.copy(ROOT / name, root / 'clone' / name)
    subprocess.run(
        [sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '--no-build-isolation']
        + ['--no-index', '-w', str(root), str(root / 'clone')],
        check=True,
    )
    [wheel] = root.glob('*.whl')
    zipfile.ZipFile(wheel).extractall(root / 'site')
    (root / 'empty').mkdir()
    return root


def python(folder, *arguments):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder / 'empty',
        env=dict(os.environ, PYTHONPATH=str(folder / 'site'), OMP_NUM_THREADS='1'),
        capture_output=True,
        text=True,
    )


def test_configs_are_found(folder):
    (folder / 'empty/mine.py').write_text(
        "_base_ = ['mmdiffdet::bccd/bccd.py']\nmodel = dict(test_cfg=dict(num_proposals=7))\n"
    )
    done = python(folder, '-c', f'FOLDER = {str(folder)!r}\n{USER}')
    assert done.returncode == 0, done.stderr


def test_tools_run(folder):
    listed = python(folder, '-m', 'mmdiffdet').stdout
    for name in ('train', 'test', 'summarize', 'benchmark', 'dist_train', 'voc_to_coco'):
        assert name in listed.strip().split('Tools: ')[1].split(', ')
    done = python(folder, '-m', 'mmdiffdet', 'tran')
    assert done.returncode == 1 and "no tool 'tran'" in done.stderr
    done = python(folder, '-m', 'mmdiffdet', 'train', 'configs/coco/cocoo.py')
    assert done.returncode == 1
    assert 'did you mean configs/coco/coco.py or ' in done.stderr.splitlines()[-1]
    (folder / 'empty/l.tsv').write_text('')
    done = python(folder, '-m', 'mmdiffdet', 'summarize', 'l.tsv')
    assert done.returncode == 1 and 'l.tsv' in done.stderr


def test_console_script(folder):
    [points] = folder.glob('site/*.dist-info/entry_points.txt')
    assert 'mmdiffdet = mmdiffdet.__main__:main' in points.read_text()
    names = {p.suffix for p in (folder / 'site').rglob('*') if p.is_file()}
    assert names <= {'.py', '.sh', '.yml', '.txt', '', '.whl', '.css', '.js'}
    for name in ('viewer.css', 'viewer.js'):
        assert (folder / 'site/mmdiffdet/reports' / name).is_file()
