"""The page of results; needs no torch."""
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from ledger_rows import ROW

from mmdiffdet.ledger.comparison import compare
from mmdiffdet.ledger.experiments import group
from mmdiffdet.ledger.page import render_page
from mmdiffdet.ledger.runs import Run

PNG = bytes.fromhex(
    '89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de'
    '0000000c4944415408d763f8cfc000000301010018dd8db00000000049454e44ae426082')


@pytest.fixture
def experiments():
    rows = [
        replace(ROW, exp_name=name, train_seed=train, eval_seed=evaluation,
                sample_step=step, checkpoint_sha256=f'{gain}{train}' * 32,
                AP=40 + gain + train + 0.1 * evaluation + 0.01 * gain * train,
                seconds_per_image=0.1 * step)
        for name, gain in (('start', 0), ('student <1>', 3))
        for train in (0, 1, 2) for evaluation in (0, 1) for step in (1, 20)
    ]
    return group([Run.of_row(row, 'x.tsv', i) for i, row in enumerate(rows)])


def test_page_holds_tables_charts_and_pictures(experiments, tmp_path):
    picture = tmp_path / 'boxes.png'
    picture.write_bytes(PNG)
    a, b = experiments[0], experiments[2]
    page = render_page('A & B', experiments, [compare(a, b)], ['odd <row>'],
                       [picture])
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
    assert page == render_page('A & B', experiments, [compare(a, b)],
                               ['odd <row>'], [picture])


def test_bad_pages(experiments, tmp_path):
    with pytest.raises(ValueError, match='at least one experiment'):
        render_page('x', [])
    with pytest.raises(ValueError, match='boxes.gif is neither'):
        render_page('x', experiments, pictures=[tmp_path / 'boxes.gif'])
    with pytest.raises(FileNotFoundError, match='no.png'):
        render_page('x', experiments, pictures=[tmp_path / 'no.png'])
