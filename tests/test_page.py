"""The page of results; needs no torch."""

import re
import runpy
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from ledger_rows import ROW, grouped

from mmdiffdet.ledger import Ledger
from mmdiffdet.ledger.comparison import compare
from mmdiffdet.ledger.pareto import pareto_fronts
from mmdiffdet.reports.page import render_page

TOOL = str(Path(__file__).parents[1] / 'tools/analysis_tools/result_page.py')
PNG = bytes.fromhex(
    '89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de'
    '0000000c4944415408d763f8cfc000000301010018dd8db00000000049454e44ae426082'
)


@pytest.fixture
def experiments():
    rows = [
        replace(
            ROW,
            exp_name=name,
            train_seed=train,
            eval_seed=evaluation,
            sample_step=step,
            checkpoint_sha256=f'{gain}{train}' * 32,
            AP=40 + gain + train + 0.1 * evaluation + 0.01 * gain * train,
            seconds_per_image=0.1 * step,
        )
        for name, gain in (('start', 0), ('student <1>', 3))
        for train in (0, 1, 2)
        for evaluation in (0, 1)
        for step in (1, 20)
    ]
    return grouped(rows)


def test_page_holds_tables_charts_and_pictures(experiments, tmp_path):
    picture = tmp_path / 'boxes.png'
    picture.write_bytes(PNG)
    a, b = experiments[0], experiments[2]
    page = render_page('A & B', experiments, [compare(a, b)], ['odd <row>'], [picture])
    assert '<h1>A &amp; B</h1>' in page
    assert 'student &lt;1&gt;' in page and 'odd &lt;row&gt;' in page
    assert '41.0500' in page and '44.0800' in page  # means over all runs
    assert 'B is better than A' in page
    assert 'data:image/png;base64,iVBORw0KGgo' in page
    charts = re.findall(r'<svg.*?</svg>', page, re.S)
    assert len(charts) == 2
    for chart in charts:
        ElementTree.fromstring(chart)
    # self-contained: nothing is loaded from elsewhere
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert page == render_page('A & B', experiments, [compare(a, b)], ['odd <row>'], [picture])


def test_one_run_has_a_page(tmp_path, monkeypatch, capsys):
    """And so has a metric that no run has."""
    Ledger(tmp_path / 'rows.tsv').append([ROW])
    for metric in ('AP', 'APs'):
        out = tmp_path / f'{metric}.html'
        monkeypatch.setattr(
            sys,
            'argv',
            ['result_page.py', str(tmp_path / 'rows.tsv'), '--out', str(out), '--metric', metric],
        )
        runpy.run_path(TOOL, run_name='__main__')
        assert 'wrote' in capsys.readouterr().out
        assert out.read_text().count('<svg') == 2


def test_the_tool_compares_and_refuses(tmp_path, monkeypatch):
    rows = [
        replace(ROW, eval_seed=e, sample_step=s, AP=40 + s + e / (9 + s))
        for e in (0, 1, 2)
        for s in (1, 4)
    ]
    Ledger(tmp_path / 'rows.tsv').append(rows)
    pair = ['base@sample_step=1', 'base@sample_step=4']
    for more, message in (([], 'sample_step'), (['sample_step'], None)):
        monkeypatch.setattr(
            sys,
            'argv',
            [
                'result_page.py',
                str(tmp_path / 'rows.tsv'),
                '--out',
                str(tmp_path / 'page.html'),
                '--compare',
                *pair,
                *more,
            ],
        )
        if message:
            with pytest.raises(SystemExit, match=message):
                runpy.run_path(TOOL, run_name='__main__')
            assert not (tmp_path / 'page.html').exists()
        else:
            runpy.run_path(TOOL, run_name='__main__')
            assert 'B is better than A' in (tmp_path / 'page.html').read_text()


def test_bad_pages(experiments, tmp_path):
    with pytest.raises(ValueError, match='at least one experiment'):
        render_page('x', [])
    with pytest.raises(ValueError, match='boxes.gif is neither'):
        render_page('x', experiments, pictures=[tmp_path / 'boxes.gif'])
    with pytest.raises(FileNotFoundError, match='no.png'):
        render_page('x', experiments, pictures=[tmp_path / 'no.png'])


def test_a_front_in_place_of_charts_of_all(experiments):
    """Of each setting that is beaten a grey mark, of the others the name."""
    fronts, _ = pareto_fronts(experiments, 'AP', 100)
    page = render_page('few', experiments, fronts=fronts)
    [picture] = re.findall(r'<svg.*?</svg>', page, re.S)
    ElementTree.fromstring(picture)
    [best] = fronts[0].front  # as good with one step as with twenty
    assert best['experiment'] == 'student <1>@sample_step=1' and len(fronts[0].beaten) == 3
    assert 'that no other beats' in page and 'AP by seed' not in page
    assert '&lt;1&gt;@sample' in picture and 'start' not in picture
