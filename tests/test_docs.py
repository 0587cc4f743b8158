"""Commands that README and docs/ name: that they exist, and the cheap ones run."""

import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import forked
import pytest
import torch
from tiny import ROOT, batch, build, losses_of, tiny_config

from mmdiffdet.models import DiffusionDetStage
from mmdiffdet.registry import MODELS

PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').glob('*.md'))]
# tools that only read what the repository holds
CHEAP = ('tools/check_parity.py tests', 'tools/summarize.py work_dirs/ledger')


def blocks(page):
    """Lines of indented blocks and of shell fences, continued lines joined."""
    text = page.read_text()
    fenced = re.findall(r'```(?:bash|sh|shell)\n(.*?)```', text, re.S)
    text = re.sub(r'```.*?```', '', text, flags=re.S)
    indented = re.findall(r'(?:^    .*\n?)+', text, re.M)
    for block in fenced + indented:
        for line in block.replace('\\\n', ' ').splitlines():
            if line.strip():
                yield line.strip()


def commands():
    for page in PAGES:
        for line in blocks(page):
            words = shlex.split(line, comments=True)
            while words and re.fullmatch(r'[A-Z_]+=.*', words[0]):
                words = words[1:]
            if words[:1] == ['mmdiffdet']:
                words = ['python', f'tools/{words[1]}.py', *words[2:]]
            if words[:1] == ['python'] and words[1].startswith('tools/'):
                yield page.name, words[1:]
            elif words and words[0].startswith('tools/'):
                yield page.name, words


COMMANDS = list(commands())


@cache
def help_of(tool):
    run = subprocess.run([sys.executable, tool, '--help'], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, f'{tool} --help: {run.stderr}'
    return run.stdout


def test_pages_have_commands():
    assert len(COMMANDS) > 20


@pytest.mark.parametrize(
    ('page', 'words'), COMMANDS, ids=[' '.join([p, *w])[:80] for p, w in COMMANDS]
)
def test_a_command_of_the_docs_exists(page, words):
    tool, *arguments = words
    assert (ROOT / tool).is_file(), f'{page}: {tool} is not there'
    for word in arguments:
        path = word.strip('[]')
        if path.startswith('configs/') and not path.startswith('configs/mine'):
            assert (ROOT / path).exists(), f'{page}: {path} is not there'
    if tool.endswith('.py'):
        known = set(re.findall(r'(?<![\w-])--[a-z][a-z-]*', help_of(tool)))
        if '--train-args' in arguments:  # what follows is for another tool
            arguments = arguments[: arguments.index('--train-args')]
        for word in arguments:
            for option in re.findall(r'^\[?(--[a-z][a-z-]*)', word):
                assert option in known, f'{page}: {tool} has no {option}'


@pytest.mark.parametrize(
    'words',
    [w for _, w in COMMANDS if ' '.join(w).startswith(CHEAP) and 'results.tsv' not in ' '.join(w)],
    ids=' '.join,
)
def test_a_cheap_command_of_the_docs_runs(words):
    run = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip()


def test_recipes_names_every_part():
    page = (ROOT / 'docs/recipes.md').read_text()
    for path in (ROOT / 'configs/_base_/parts').glob('*.py'):
        assert f'`{path.stem}`' in page, path.stem


def test_the_part_that_extending_shows():
    """It can be built, leaves the first forward as it was and learns."""
    page = (ROOT / 'docs/extending.md').read_text()
    for name in inspect.signature(DiffusionDetStage).parameters:
        assert not name.endswith('_parts') or f'`{name}`' in page, name
    [example] = re.findall(r'```python\n# my_parts.py\n(.*?)```', page, re.S)
    config = tiny_config()
    plain = build(config).eval()
    exec(example, {})
    config.bbox_head.stage.feature_parts = [dict(type='MyPart')]
    try:
        model = build(config).eval()
    finally:
        MODELS.module_dict.pop('MyPart')
    with torch.no_grad():
        for a, b in zip(plain.test_step(batch()), model.test_step(batch())):
            assert torch.equal(a.pred_instances.scores, b.pred_instances.scores)
    losses_of(model.train(), batch())['loss_cls'].backward()
    assert model.bbox_head.head_series[0].feature_parts['mine'].proj.weight.grad.abs().sum() > 0


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r'\]\(([^)#:]+)\)', page.read_text()):
            assert (page.parent / target).exists(), f'{page.name}: {target} is not there'


def test_readme_fits_one_screen_and_a_half():
    assert len(Path(PAGES[0]).read_text().splitlines()) <= 120


def test_the_notebook_runs(tmp_path, monkeypatch, capsys):
    """All cells, with one iteration of training on eight images."""
    monkeypatch.setenv('ITERATIONS', '1')
    monkeypatch.setenv('IMAGES', '8')
    monkeypatch.setenv('FOLDER', str(tmp_path))
    monkeypatch.delenv('OWN_ROOT', raising=False)
    monkeypatch.chdir(ROOT)
    cells = json.loads((ROOT / 'docs/first_five_minutes.ipynb').read_text())['cells']
    names: dict = {}
    for cell in cells:
        if cell['cell_type'] == 'code':
            exec(''.join(cell['source']), names)
            if hasattr(os, 'fork'):  # else each tool takes its seconds to start
                names['subprocess'] = forked
    monkeypatch.delenv('OWN_ROOT')  # that the notebook has set
    printed = capsys.readouterr().out
    assert 'verdict' in printed and len(names['found'].boxes[0]) > 0
