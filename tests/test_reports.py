"""What charts draw, and tables to the last digit; needs no torch."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from ledger_rows import ROW, grouped
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from mmdiffdet.ledger.comparison import compare
from mmdiffdet.ledger.pareto import pareto_fronts
from mmdiffdet.ledger.plan import plan_study
from mmdiffdet.reports import page
from mmdiffdet.reports.charts import plot_cost, plot_front, plot_seeds
from mmdiffdet.reports.page import render_page
from mmdiffdet.reports.summary import summary_records, summary_table
from mmdiffdet.reports.text import render_table
from mmdiffdet.reports.verdicts import (
    render_comparison,
    render_comparisons,
    render_pareto,
    render_plan,
    sentence,
)


def runs(name: str, values: dict, **columns: object) -> list:
    """Rows of one experiment; values[train seed] are the APs of eval seeds 0, 1, ..."""
    return [
        replace(
            ROW,
            exp_name=name,
            train_seed=train,
            eval_seed=seed,
            AP=float(ap),
            checkpoint_sha256=f'{name.encode().hex()}{train or 0}'.zfill(64)[::-1],
            **columns,
        )
        for train, aps in values.items()
        for seed, ap in enumerate(aps)
    ]


@pytest.fixture
def axes():
    return Figure().add_subplot()


def texts(axes) -> dict:
    return {text.get_text().strip(): text.xy for text in axes.texts}


# -- charts ---------------------------------------------------------------------


def test_cost_is_drawn_in_milliseconds_with_its_spread(axes) -> None:
    rows = [
        *runs('a', {0: [40, 42], 1: [44, 46]}, sample_step=4, seconds_per_image=0.4),
        *runs('a', {0: [30, 32], 1: [36, 38]}, seconds_per_image=0.1),
        *runs('b', {0: [50, 54]}, seconds_per_image=0.2),
        *runs('untimed', {0: [50]}, seconds_per_image=None),
    ]
    plot_cost(axes, grouped(rows), 'AP')
    a, b = axes.containers
    assert (a.get_label(), b.get_label()) == ('a', 'b')
    line, _, (bars,) = a.lines
    assert line.get_xdata().tolist() == [100, 400] and line.get_ydata().tolist() == [34, 43]
    # means of train seeds 31 and 37, 41 and 45
    ends = [segment[:, 1].tolist() for segment in bars.get_segments()]
    assert ends == [[31, 37], [41, 45]]
    (segment,) = b.lines[2][0].get_segments()
    assert segment[:, 1].tolist() == [50, 54]  # of one training between its eval seeds
    assert b.lines[0].get_markerfacecolor() == 'white' != line.get_markerfacecolor()
    assert [to_hex(x.lines[0].get_color()) for x in (a, b)] == [to_hex('C0'), to_hex('C1')]
    drawn = texts(axes)
    assert drawn['4'] == (400, 43) and len(axes.texts) == 3
    assert axes.get_xscale() == 'log' and axes.get_ylabel() == 'AP'
    assert axes.get_legend() is not None


def test_devices_are_named_where_there_are_several(axes) -> None:
    rows = runs('a', {0: [40]}) + runs('b', {0: [41]}, device='GPU')
    plot_cost(axes, grouped(rows), 'AP')
    assert [c.get_label() for c in axes.containers] == ['a, Some CPU', 'b, GPU']
    nothing = Figure().add_subplot()
    plot_cost(nothing, grouped(rows), 'APs')
    assert not nothing.containers and nothing.get_legend() is None


def test_other_selectors_than_steps_stay_in_the_legend(axes) -> None:
    rows = [
        *runs('a', {0: [40]}, eta=0.0),
        *runs('a', {0: [41]}, sample_step=4, eta=0.0),
        *runs('a', {0: [42]}, sample_step=4),
    ]
    plot_cost(axes, grouped(rows), 'AP')
    labels = {c.get_label(): c.lines[0].get_ydata().tolist() for c in axes.containers}
    assert sorted(labels) == ['a@eta=0.0', 'a@eta=1.0']
    assert sorted(labels['a@eta=0.0']) == [40, 41] and labels['a@eta=1.0'] == [42]


def test_a_front_is_drawn_with_what_it_beats(axes) -> None:
    rows = [
        *runs('best', {0: [40, 42], 1: [44, 46]}, seconds_per_image=0.2),
        *runs('fast', {0: [30]}, seconds_per_image=0.1),
        *runs('bad', {0: [20]}, seconds_per_image=0.3),
    ]
    experiments = grouped(rows)
    (front,), _ = pareto_fronts(experiments, 'AP', 100)
    plot_front(axes, front, experiments)
    points = [line.get_xydata().tolist() for line in axes.lines]
    assert points == [[[300, 20]], [[100, 30]], [[200, 43]]]
    vertical, horizontal = (c.get_segments()[0].tolist() for c in axes.collections)
    low, high = front.front[1]['interval']
    assert vertical == [[200, pytest.approx(low)], [200, pytest.approx(high)]]
    assert horizontal == [[pytest.approx(200), 43]] * 2
    assert texts(axes) == dict(fast=(100, 30), best=(200, 43))


@pytest.mark.parametrize('count, gap', [(2, 0.2), (8, 0.1)])
def test_seeds_are_drawn_side_by_side(axes, count: int, gap: float) -> None:
    """Around the place of their experiment, at most 0.8 wide, the unknown one first."""
    trains = [None, *range(1, count)]
    rows = runs('a', {1: [10, 20]})
    for train in trains:
        rows += runs(f'b{train}' if train is None else 'b', {train: [40, 41]})
    experiments = grouped(rows)
    plot_seeds(axes, experiments, 'AP')
    dots = [line for line in axes.lines if line.get_marker() == 'o' and len(line.get_xdata())]
    bars = [line for line in axes.lines if line.get_marker() == '_']
    first = -(count - 1) / 2 * gap
    assert dots[0].get_xdata() == pytest.approx([first + gap] * 2)
    assert dots[0].get_ydata().tolist() == [10, 20] and bars[0].get_ydata()[0] == 15
    assert dots[1].get_xdata() == pytest.approx([1 + first] * 2)
    assert [x.get_xdata()[0] for x in dots[2:]] == pytest.approx(
        [2 + first + i * gap for i in range(1, count)]
    )
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == [f'train seed {train}' for train in trains]
    for line, color in zip(dots, ('C1', 'C0')):
        assert to_hex(line.get_color()) == to_hex(color)
    assert axes.get_xticks().tolist() == [0, 1, 2]


# -- tables ---------------------------------------------------------------------


def test_cells_of_a_summary() -> None:
    (experiment,) = grouped(runs('a', {0: [40, 42], 1: [44, 47]}))
    columns, (row,) = summary_table(summary_records([experiment], pd.DataFrame(), 'AP'))
    cells = dict(zip(columns, row))
    values = np.array([[40, 42], [44, 47]])
    assert cells['n'] == '4' and cells['seeds'] == '2x2'
    assert cells['mean'] == cells['mean_of_means'] == '43.2500'
    assert cells['std'] == f'{values.std():.4f}'
    assert cells['across'] == '2.2500'
    assert cells['within'] == f'{math.sqrt((1 + 2.25) / 2):.4f}'
    assert cells['seconds_per_image'] == '0.100000'
    assert cells['checkpoint'] == '01600000 +1'


def test_tables_of_text() -> None:
    rows, columns = [['a', 'bb', 'c'], ['ddd', 'e', 'f g']], ['x', 'y', 'z']
    assert render_table(rows, columns, 'table') == 'x    y   z\na    bb  c\nddd  e   f g'
    assert render_table(rows, columns, 'md') == (
        '| x | y | z |\n| --- | --- | --- |\n| a | bb | c |\n| ddd | e | f g |'
    )
    # numbers are no formula, and quotes no markup of Markdown
    cells = ['-1.5', '+2', '-x', '=1', '"q"', 'a=b']
    assert render_table([cells], cells, 'tsv').split('\n')[1] == '-1.5\t+2\t\'-x\t\'=1\t"q"\ta=b'
    assert render_table([['"q" & <b>']], ['x'], 'md').endswith('| "q" &amp; &lt;b&gt; |')
    assert render_table([['"']], ['x'], 'html').count('<td>&quot;</td>') == 1


def compared(**columns: object):
    a = runs('a', {0: [40, 41], 1: [40, 42], 2: [41, 40]}, seconds_per_image=0.2)
    b = runs('b', {0: [44, 45], 1: [43, 46], 2: [45, 44]}, **columns)
    return grouped([*a, *b])


def test_a_comparison_in_words() -> None:
    c = compare(*compared(seconds_per_image=0.5))
    assert sentence(c).startswith(
        'b has AP 44.5, a 40.7: better, with 6 and 6 runs, at 2.50 times the time an image. This'
    )
    table = render_comparison(c, 'table')
    assert 'a: AP 40.6667, 3x2 runs, across train seeds 0.2357, within 0.7071' in table
    assert 'b: AP 44.5000, 3x2 runs' in table and 'protocol of B' not in table
    assert 'A 0.200000 and B 0.500000 seconds per image: B takes 2.50 times' in table
    assert table.count('(decides)') == 1 and 'paired t p = 0.' in table
    two = render_comparisons([c, c], 'table')
    assert two == f'{table}\n\n{table}'
    assert (
        render_comparisons([c], 'json')[0] == '{' and render_comparisons([c] * 2, 'json')[0] == '['
    )


@pytest.mark.parametrize('columns', [dict(device='GPU'), dict(seconds_per_image=None)])
def test_times_that_cannot_be_compared(columns: dict) -> None:
    c = compare(*compared(**columns))
    assert 'the time an image' not in sentence(c) and 'times as long' not in str(
        render_comparison(c, 'md')
    )


def test_a_studied_field_has_both_protocols() -> None:
    c = compare(*compared(eta=0.0), across='eta')
    lines = render_comparison(c, 'table').split('\n')
    place = next(i for i, line in enumerate(lines) if line.startswith('protocol of B'))
    assert lines[place - 1].startswith('protocol  ') and 'eta=0.0' in lines[place]
    assert 'eta=1.0' in lines[place - 1]


def test_a_family_that_does_not_sample_has_no_eval_seeds_to_tell() -> None:
    fixed = runs('a', {0: [40]}, scheduler='none', eta=None, model_family='DETR')
    drawn = runs('b', {0: [41, 42]})
    c = compare(*grouped([*fixed, *drawn]), across='model_family')
    assert '2 and 2 runs' in sentence(c) and 'eval seeds 0' not in sentence(c)


def test_a_plan_and_a_front_in_words() -> None:
    experiments = compared(seconds_per_image=0.5)
    plan = plan_study(*experiments)
    text = render_plan(plan, 'table')
    assert f'{plan.factor[0]:.2f} to {plan.factor[1]:.2f} times that (95 %), from 3 train' in text
    assert text.count('2 eval seeds') == 2
    fronts, _ = pareto_fronts(experiments, 'AP', 100)
    head, *lines = render_pareto(fronts, 'tsv').split('\n')
    assert head.split('\t')[:2] == ['dataset', 'annotation_sha256']
    for line, settings in zip(lines, fronts[0].front):
        low, high = settings['interval']
        assert line.split('\t') == [
            *('demo', 'c' * 8, 'Some CPU'),
            f'{settings["seconds_per_image"]:.6f}',
            ' to '.join(f'{end:.6f}' for end in settings['seconds_interval']),
            f'{settings["mean"]:.4f}',
            f'{low:.4f} to {high:.4f}',
            *('3x2', f'{settings["share"]:.0%}', settings['experiment']),
        ]
    assert 'beaten: none' in render_pareto(fronts, 'table')


# -- the page -------------------------------------------------------------------


def test_the_page_says_what_is_best_and_what_is_the_same(monkeypatch) -> None:
    monkeypatch.setattr(page, 'chart', lambda plot, *what: plot.__name__)
    one = render_page('x', grouped([ROW]))
    assert 'base has a mean AP of 46.3; nothing was compared' in one
    assert 'sample_step 1' in one.split('The same in all rows: ')[1]
    rows = runs('a', {0: [40]}) + runs('b', {0: [41]}, sample_step=4) + runs('c', {0: [39]})
    three = render_page('x', grouped(rows))
    assert 'b has the best mean AP, 41.0, of 3; nothing was compared' in three
    same = three.split('The same in all rows: ')[1].split('</p>')[0]
    assert 'scheduler DDIMScheduler' in same and 'sample_step' not in same
    assert '<th>sample_step</th>' in three and '<th>scheduler</th>' not in three
    assert 'against cost' in three and 'AP by seed' in three
    untimed = render_page('x', grouped(runs('a', {0: [40]}, seconds_per_image=None)), metric='AP')
    assert 'against cost' not in untimed and 'AP by seed' in untimed
    assert 'No run has APs.' in render_page('x', grouped([ROW]), metric='APs')
