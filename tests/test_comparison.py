"""Is B better than A: units, tests, intervals and advice."""

import itertools
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import List

import numpy as np
import pytest
from ledger_rows import experiments_of, ledger_of, summarize, two
from scipy import stats
from scipy.stats import ttest_rel

from mmdiffdet.ledger import Ledger
from mmdiffdet.ledger.comparison import compare, correct
from mmdiffdet.ledger.experiments import pool
from mmdiffdet.ledger.resampling import bootstrap_means, components, paired_tests, unpaired_tests
from mmdiffdet.reports.verdicts import render_comparison, sentence


def test_train_seed_is_the_unit(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    a = rng.normal(40, 1, (5, 1)) + rng.normal(0, 0.3, (5, 4))
    b = a + rng.normal(1.0, 0.4, (5, 1)) + rng.normal(0, 0.3, (5, 4))
    c = compare(*two(tmp_path, a, b))
    assert c.pairing == '20 pairs by (train seed, eval seed)'
    assert (c.unit, c.replicates) == ('train seed', (5, 5))
    assert c.difference == pytest.approx((b - a).mean())
    means = (b - a).mean(1)
    sign_flip, t_test = c.tests
    assert t_test.p == pytest.approx(stats.ttest_1samp(means, 0).pvalue)
    assert sign_flip.p == 2 / 2**5 and c.decisive is t_test
    assert c.low < c.difference < c.high and c.verdict == 'better'
    assert any('cannot give p below 0.062' in note for note in c.notes)
    assert any('too narrow' in note for note in c.notes)
    back = compare(c.b, c.a)
    assert back.verdict == 'worse' and back.difference == -c.difference


def test_permutation_decides_from_six_train_seeds(tmp_path: Path) -> None:
    a = np.full((6, 2), 40.0)
    b = a + np.array([[0.1], [0.9], [0.2], [0.1], [0.5], [0.1]])
    c = compare(*two(tmp_path, a, b))
    assert c.decisive.name == 'sign-flip permutation'
    assert c.decisive.p == 2 / 2**6 and c.verdict == 'better'


def test_eval_seeds_do_not_replace_train_seeds(tmp_path: Path) -> None:
    """40 runs a side, but two trainings: nothing is decided."""
    rng = np.random.default_rng(0)
    a = rng.normal(40, 0.1, (2, 20))
    c = compare(*two(tmp_path, a, a + 2 + rng.normal(0, 0.1, (2, 20))))
    assert c.replicates == (2, 2) and c.verdict == 'not distinguishable'
    assert c.decisive is None and c.tests[0].p == 0.5
    assert c.more.startswith('about 1 more train seed (x 20 eval seeds)')


def test_one_train_seed_speaks_of_the_checkpoint(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(40, 0.2, (1, 8))
    c = compare(*two(tmp_path, a, a + 1 + rng.normal(0, 0.2, (1, 8))))
    assert c.verdict == 'better' and c.unit == 'eval seed'
    assert c.scope.startswith('these two checkpoints only')
    assert c.spread.train is None


def test_one_run_each_is_not_tested(tmp_path: Path) -> None:
    c = compare(*two(tmp_path, [[40]], [[45]]))
    assert (c.verdict, c.unit, c.low) == ('not distinguishable', 'none', None)
    assert 'one run cannot show how much runs vary' in c.notes
    assert c.more.startswith('at least 3 train seeds')


def test_two_eval_seeds_show_a_spread_and_decide_nothing(tmp_path: Path) -> None:
    c = compare(*two(tmp_path, [[40, 41]], [[45, 46.5]]))
    assert (c.verdict, c.unit, c.replicates) == ('not distinguishable', 'eval seed', (2, 2))
    assert c.decisive is None and c.low == 5 and c.high == 5.5


def test_one_training_against_several_others(tmp_path: Path) -> None:
    ledger = Ledger(ledger_of(tmp_path / 'l.tsv', dict(a=[[40, 41, 42]])))
    ledger.append([replace(r, train_seed=9) for r in ledger.read()], force=True)
    ledger_of(ledger.path, dict(b=[[50, 51, 52]] * 3))
    c = compare(*experiments_of(ledger.path))
    assert (c.verdict, c.unit, c.tests) == ('not distinguishable', 'none', [])
    assert c.difference == 10
    assert any('one side has one train seed' in note for note in c.notes)


def test_unpaired_train_seeds(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(40, 1, (4, 3)), rng.normal(44, 1, (5, 3))
    ledger = ledger_of(tmp_path / 'a.tsv', dict(a=a))
    other = Ledger(ledger_of(tmp_path / 'b.tsv', dict(b=b)))
    moved = [replace(r, train_seed=r.train_seed + 10) for r in other.read()]
    other.path.unlink()
    other.append(moved)
    c = compare(*experiments_of(ledger, other.path))
    assert c.pairing == 'unpaired: no (train seed, eval seed) in common'
    assert c.replicates == (4, 5) and c.verdict == 'better'
    expected = stats.ttest_ind(a.mean(1), b.mean(1), equal_var=False).pvalue
    assert c.tests[1].p == pytest.approx(expected)
    assert c.decisive.name == "permutation of Welch's t"
    assert c.decisive.p == pytest.approx(1 / 126)


def test_unequal_variances_are_no_effect() -> None:
    """Means are equal, and the smaller group varies three times as much; a permutation
    of the difference of the means would be wrong in 16 % of the draws."""
    rng = np.random.default_rng(0)
    wrong = [
        unpaired_tests(rng.normal(40, 3, 5), rng.normal(40, 1, 10))[0].p <= 0.05 for _ in range(200)
    ]
    assert sum(wrong) / 200 < 0.11


def test_the_permuted_statistic_is_welchs() -> None:
    """By hand, over all 35 ways to choose three of seven."""
    a, b = np.array([40.0, 41, 43]), np.array([42.5, 42.6, 43.4, 43.5])
    every = np.concatenate([a, b])
    ways = [list(i) for i in itertools.combinations(range(7), 3)]
    t = np.array(
        [stats.ttest_ind(np.delete(every, i), every[i], equal_var=False).statistic for i in ways]
    )
    expected = np.mean(abs(t) >= abs(t[0]) - 1e-9)
    assert unpaired_tests(a, b)[0].p == pytest.approx(expected) != 4 / 35


def test_other_eval_seeds_are_told_in_the_verdict(tmp_path: Path) -> None:
    a = Ledger(ledger_of(tmp_path / 'a.tsv', dict(a=[[40, 41, 42]] * 3)))
    ledger_of(tmp_path / 'b.tsv', dict(b=[[45, 46], [45, 47], [44, 46]]))
    c = compare(*experiments_of(a.path, tmp_path / 'b.tsv'))
    told = 'with 6 and 6 runs (eval seeds 0-2 of A and 0, 1 of B; compared are those of both)'
    assert told in render_comparison(c, 'table') and told in sentence(c)
    moved = [replace(r, train_seed=r.train_seed + 3) for r in a.read()]
    a.path.unlink()
    a.append(moved)
    c = compare(*experiments_of(a.path, tmp_path / 'b.tsv'))
    told = 'with 9 and 6 runs (eval seeds 0-2 of A and 0, 1 of B)'
    assert told in render_comparison(c, 'table') and told in sentence(c)
    c = compare(*two(tmp_path / 'same', [[40, 41]] * 3, [[42, 43]] * 3))
    assert 'eval seeds' not in sentence(c)


def test_partners_that_are_missing_are_told(tmp_path: Path) -> None:
    c = compare(
        *two(tmp_path, [[40, 41], [40, 42], [41, 40]], [[41, 42], [41, 43], [42, 41], [90, 90]])
    )
    assert 'not used: 0 runs of A, 2 of B' in c.pairing
    assert c.used == (6, 6)
    assert c.difference == 1


def test_bootstrap_resamples_both_levels() -> None:
    rng = np.random.default_rng(0)
    train = [np.full(3, v) for v in (1.0, 2.0, 4.0, 7.0)]
    means = bootstrap_means(train, 20000, rng)
    assert means.mean() == pytest.approx(3.5, abs=0.05)
    assert means.std() == pytest.approx(np.std([1, 2, 4, 7]) / 2, rel=0.03)
    evaluation = [np.array([1.0, 3.0])] * 3 + [np.array([0.0, 2.0, 4.0])]
    means = bootstrap_means(evaluation, 20000, rng)
    # variance of a mean of 2 of variance 1; of 3 of variance 8 / 3
    expected = np.sqrt((3 * 1 / 2 + 8 / 9) / 4 / 4)
    assert means.std() == pytest.approx(expected, rel=0.03)


def test_variance_components_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    groups = list(rng.normal(0, 1, (2000, 1)) + rng.normal(0, 2, (2000, 3)))
    assert components(groups) == pytest.approx((1, 4), rel=0.15)


def test_no_effect_is_seldom_found(tmp_path: Path) -> None:
    """5 train seeds without a difference: at most about 5 % wrong verdicts,
    though the eval seeds alone would look like 25 runs."""
    rng = np.random.default_rng(0)
    names = [f'{side}{i}' for i in range(200) for side in 'ab']
    values = {name: rng.normal(40, 1, (5, 1)) + rng.normal(0, 0.3, (5, 5)) for name in names}
    experiments = experiments_of(ledger_of(tmp_path / 'l.tsv', values))
    verdicts = [
        compare(a, b, resamples=200).verdict for a, b in zip(experiments[::2], experiments[1::2])
    ]
    wrong = sum(v != 'not distinguishable' for v in verdicts)
    assert 2 <= wrong <= 18


def test_advice_comes_true(tmp_path: Path) -> None:
    """With as many train seeds as advised, 80 % settle it, or nearly."""
    rng = np.random.default_rng(0)

    def draw(trains: int) -> List[np.ndarray]:
        a = rng.normal(40, 1, (trains, 1)) + rng.normal(0, 0.3, (trains, 4))
        b = a + rng.normal(0.5, 0.7, (trains, 1))
        return [a, b + rng.normal(0, 0.3, (trains, 4))]

    a, b = draw(4)
    b += 0.5 - (b - a).mean()
    c = compare(*two(tmp_path, a, b))
    assert c.verdict == 'not distinguishable'
    more = int(re.match(r'about (\d+) more train seed', c.more)[1])
    scale = c.spread.train**0.5 / 0.7
    better = 0
    for i in range(100):
        a, b = draw(4 + more)
        b = a + 0.5 + (b - a - 0.5) * scale
        c = compare(*two(tmp_path / str(i), a, b), resamples=200)
        better += c.verdict == 'better'
    assert 65 <= better <= 97


def test_more_eval_seeds_help_only_against_their_noise(tmp_path: Path) -> None:
    a = np.full((4, 4), 40.0)
    noise = np.array([[3, -3, 1, -1], [2, -1, -3, 2], [1, -2, 4, -3], [-4, 2, 1, 1]])
    c = compare(*two(tmp_path / 'x', a, a + noise + [[0.4], [0.5], [0.6], [0.5]]))
    assert re.search(r'or about \d+ more eval seeds of each model', c.more)
    c = compare(*two(tmp_path / 'y', a, a + [[3], [-2], [1], [-1]]))
    assert 'more eval seeds alone would not settle it' in c.more


def test_equal_results(tmp_path: Path) -> None:
    a, b = two(tmp_path, [[40, 41], [42, 43], [40, 40]], [[40, 41], [42, 43], [40, 40]])
    c = compare(a, b)
    assert c.verdict == 'not distinguishable' and c.tests[0].p == 1
    assert c.more == 'no number would settle a difference of zero'


def test_chosen_mixture_is_warned_of(tmp_path: Path) -> None:
    values = [[40.0, 41.0]]
    ledger = ledger_of(tmp_path / 'l.tsv', dict(a=values * 3))
    for seed, lr in enumerate((1, 2, 1)):
        rows = Ledger(ledger_of(tmp_path / 'x.tsv', {f'lr{lr}_seed{seed}': values}))
        Ledger(ledger).append(replace(r, train_seed=seed) for r in rows.read())
    experiments = experiments_of(ledger)
    mix = pool(experiments, 'mix', ['lr*'])
    notes = compare(experiments[0], mix).notes
    assert any(n.startswith('B pools 2 experiments') for n in notes)


def test_several_comparisons_are_corrected(tmp_path: Path) -> None:
    """Holm's steps by hand: 3 p1, 2 p2, p3, none below the one before."""
    a = np.full((6, 1), 40.0)
    steps = np.array([[1.0], [1.1], [0.9], [1.2], [0.8], [1.05]])
    values = dict(
        a=a, b=a + steps, c=a + steps * [[1], [1], [1], [1], [1], [-0.05]], d=a + 2 * steps
    )
    values['e'] = a + [[0.1], [0.2], [2.5], [0.3], [0.2], [1.5]]
    values['one'] = [[43.0]]
    a, b, c, d, e, one = experiments_of(ledger_of(tmp_path / 'l.tsv', values))
    alone = [compare(a, x) for x in (b, c, d, one)]
    assert [x.decisive and x.decisive.p for x in alone] == [2 / 64, 4 / 64, 2 / 64, None]
    assert [x.verdict for x in alone[:3]] == ['better', 'not distinguishable', 'better']
    together = correct(alone)
    # a permutation test of six gives no p below 0.031, more than 0.05 / 3
    p = [ttest_rel(x.runs.AP, a.runs.AP).pvalue for x in (b, c, d)]
    assert [x.decisive.name for x in together[:3]] == ['paired t'] * 3
    low, middle, high = sorted(p)
    holm = {low: 3 * low, middle: max(3 * low, 2 * middle), high: max(2 * middle, high)}
    assert [x.corrected for x in together] == [pytest.approx(holm[x]) for x in p] + [None]
    assert [x.verdict for x in together[:3]] == ['better'] * 3
    told = 'cannot give p below 0.031 with 6 train seeds among 3 comparisons, so paired t decides'
    assert all(any(told in note for note in x.notes) for x in together[:3])
    assert not any('among' in note for x in alone for note in x.notes)
    # what alone is no chance is one among many
    doubtful = compare(a, e)
    assert doubtful.verdict == 'better'
    many = correct([doubtful] * 2)
    assert many[0].verdict == 'not distinguishable'
    assert 'alone it would be better; among 2 comparisons a p of' in many[0].notes[-1]
    assert many[0].more == 'more train seeds than for one comparison, or fewer comparisons'
    (single,) = correct(alone[:1])
    assert single.corrected == 2 / 64 and single.verdict == 'better'


def test_tool_compares_several_pairs(tmp_path: Path) -> None:
    a = np.full((5, 2), 40.0)
    noise = np.random.default_rng(0).normal(0, 0.1, (5, 2))
    path = ledger_of(tmp_path / 'l.tsv', dict(a=a, b=a + 3 + noise, c=a + noise))
    one = json.loads(summarize(path, '--compare', 'a', 'b', '--format', 'json').stdout)
    assert 'corrected_p' not in one
    assert (one['summary_a']['mean'], one['summary_b']['n']) == (40, 10)
    assert one['summary_b']['mean'] == pytest.approx(43 + noise.mean())
    pairs = ['--compare', 'a', 'b', '--compare', 'a', 'c']
    two = json.loads(summarize(path, *pairs, '--format', 'json').stdout)
    assert [x['b'] for x in two] == ['b', 'c']
    assert two[0]['corrected_p'] == 2 * one['tests'][1]['p'] and two[0]['verdict'] == 'better'
    told = summarize(path, *pairs).stdout
    assert told.count('verdict') == 2 and 'corrected for the number of comparisons (Holm)' in told


def test_rounding_is_no_variance() -> None:
    """Equal differences of results of three decimals, which differ by 1e-14."""
    a, b = np.array([15.2, 45.2, 70.2]), np.array([15.3, 45.3, 70.3])
    assert np.ptp(b - a) > 0
    assert [t.name for t in paired_tests(b - a)] == ['sign-flip permutation']
    a, b = np.array([0.1 + 0.2, 0.3, 0.3]), np.array([0.7, 0.7, 0.1 * 7])
    (test,) = unpaired_tests(a, b)
    assert test.name == "permutation of Welch's t" and test.p == pytest.approx(0.1)
