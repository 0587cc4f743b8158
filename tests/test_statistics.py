"""Statistics by hand: variances, permutations, the bootstrap's draws, seeds that are needed."""

import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ledger_rows import ROW, experiments_of, grouped, ledger_of, two
from scipy import stats

from mmdiffdet.ledger import Ledger
from mmdiffdet.ledger.comparison import compare
from mmdiffdet.ledger.plan import plan_study
from mmdiffdet.ledger.power import more_runs, needed_noncentrality, variance_of_difference
from mmdiffdet.ledger.resampling import components, paired_tests, unpaired_tests
from mmdiffdet.ledger.statistics import summarise


def arrays(*groups: list) -> list:
    return [np.array(group, dtype=float) for group in groups]


def test_variances_by_hand() -> None:
    # inner variances 2 and 8; means 2 and 12, of variance 50, less half of 5
    assert components(arrays([1, 3], [10, 14])) == pytest.approx((47.5, 5))
    # 2 and 4; the means are equal, and no variance is negative
    assert components(arrays([1, 3], [0, 2, 4])) == pytest.approx((0, 3))
    assert components(arrays([1], [3])) == (2, None)
    assert components(arrays([1, 3])) == (None, 2)
    # a side with one eval seed counts their share as that of training
    assert (
        variance_of_difference([arrays([1], [3]), arrays([1, 3], [10, 14])], 4) == 2 + 47.5 + 1.25
    )


def test_numbers_of_seeds_as_text() -> None:
    rows = [
        replace(ROW, train_seed=t, eval_seed=e, checkpoint_sha256=f'{t}' * 64)
        for t, count in enumerate((3, 1, 5))
        for e in range(count)
    ]
    (experiment,) = grouped(rows)
    assert summarise(experiment.runs).seeds == '3x1-5'
    none = summarise(experiment.runs, 'APs')
    assert (none.n, none.seeds, none.mean, none.mean_of_means) == (0, '0x0', None, None)


@pytest.mark.parametrize('seed', range(6))
def test_permutations_by_hand(seed: int) -> None:
    """Of three and four results, whose variances differ."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(40, 3, 3), rng.normal(44, 1, 4)
    every = np.concatenate([a, b])
    ways = [list(i) for i in itertools.combinations(range(7), 3)]
    t = [stats.ttest_ind(np.delete(every, i), every[i], equal_var=False).statistic for i in ways]
    permutation, welch = unpaired_tests(a, b)
    assert permutation.p == pytest.approx(np.mean(np.abs(t) >= abs(t[0]) - 1e-9))
    assert permutation.smallest == pytest.approx(1 / 35)
    assert welch.p == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue)


def test_groups_at_the_limits() -> None:
    # groups of the same size can be exchanged: 2 of 20 ways
    permutation, _ = unpaired_tests(*arrays([40, 41, 42], [50, 51, 53]))
    assert permutation.p == permutation.smallest == 0.1
    assert [t.name for t in unpaired_tests(*arrays([40, 40, 40], [50, 51, 52]))][1:] == [
        "Welch's t"
    ]
    assert unpaired_tests(*arrays([40, 40], [40, 40])) == [('all results are equal', 1.0, 1.0)]
    assert len(unpaired_tests(*arrays([40, 41], [40, 41]))) == 2


@pytest.mark.parametrize('paired', [True, False])
def test_the_interval_is_of_the_bootstraps_draws(tmp_path: Path, paired: bool) -> None:
    """B's are drawn before A's, always alike: published intervals come out again."""
    rng = np.random.default_rng(7)
    a, b = rng.normal(40, 1, 9), rng.normal(41, 1, 9)
    first, second = two(tmp_path, a[:, None], b[:, None])
    if not paired:
        rows = [
            replace(ROW, exp_name='b', train_seed=t, checkpoint_sha256=f'{t}' * 32, AP=ap)
            for t, ap in enumerate(b, 10)
        ]
        (second,) = grouped(rows)
    found = compare(first, second, resamples=1000)
    draws = np.random.default_rng(0)

    def means(values: np.ndarray) -> np.ndarray:
        drawn = []
        for _ in range(2):
            drawn.append(draws.integers(9, size=(500, 9)))
            draws.random((500, 9, 1))  # eval seeds, of which each has one
        return values[np.concatenate(drawn)].mean(1)

    expected = means(b - a) if paired else means(b) - means(a)
    assert (found.low, found.high) == pytest.approx(np.quantile(expected, [0.025, 0.975]))
    assert found.difference == pytest.approx(b.mean() - a.mean())


def test_power_of_the_t_test_by_its_formula() -> None:
    """Where there are more arrangements than are simulated."""
    for count, paired, freedom in ((11, True, 10), (8, False, 14)):
        value = needed_noncentrality(count, paired)
        power = stats.nct.sf(stats.t.isf(0.025, freedom), freedom, value)
        assert power == pytest.approx(0.8, abs=1e-6)


GROUPS = arrays([1, 3], [2, 6], [-4, 0], [5, 5])
SMALL = arrays([0, 8], [10, 1], [2, 6])


def seeds_needed(difference: float, variance, paired: bool, start: int, units: int = 0) -> int:
    """One after the other, none skipped."""
    for count in itertools.count(max(start, 3)):
        error = math.sqrt(variance(count))
        if difference >= needed_noncentrality(units or count, paired) * error:
            return count


@pytest.mark.parametrize('needed', [4, 5, 11, 12, 13, 14, 1000])
def test_as_many_train_seeds_as_are_needed(needed: int) -> None:
    """The difference that so many train seeds show, and one hardly fewer do not."""
    train, evaluation = components(GROUPS)
    error = math.sqrt((train + evaluation / 2) / needed)
    difference = -needed_noncentrality(needed, True) * error * (1 + 1e-9)
    more = max(needed - 4, 1)
    told = more_runs('train seed', [GROUPS], difference)
    assert told.startswith(f'about {more} more train seed{"s" * (more > 1)} (x 2 eval seeds)')
    if needed == 1000:
        told = more_runs('train seed', [GROUPS], difference * 0.9999)
        assert told.startswith('more than 1000 train seeds (x 2 eval seeds); more eval seeds alone')


def test_eval_seeds_that_are_needed() -> None:
    """Of three models, whose differences vary by the eval seeds most of all."""
    train, evaluation = components(SMALL)
    for difference in (6.0, 7.0, 9.0):
        of_train = seeds_needed(difference, lambda n: (train + evaluation / 2) / n, True, 3)
        of_eval = seeds_needed(difference, lambda n: (train + evaluation / n) / 3, True, 2, units=3)
        counts = [max(of_train - 3, 1), max(of_eval - 2, 1)]
        trains, evals = (f'{n} more {{}} seed{"s" * (n > 1)}' for n in counts)
        assert more_runs('train seed', [SMALL], difference) == (
            f'about {trains.format("train")} (x 2 eval seeds), or about {evals.format("eval")} '
            'of each model'
        )
    # of two models no number of eval seeds gives a test
    told = more_runs('train seed', [SMALL[:2]], 50.0)
    assert told.endswith('more eval seeds alone would not settle it')
    told = more_runs('train seed', [arrays([1], [3], [2])], 3.0)
    assert told.endswith('(x 1 eval seeds); the share of the eval seeds is unknown')
    # of one model the eval seed is the unit; two groups need more than pairs
    (group,) = arrays([1, 3, 4, 2])
    for sides, paired, next_up in (([[group]], True, 3), ([[group], [group + 1]], False, 2)):
        variance = len(sides) * np.var(group, ddof=1)
        # 5 are enough; just not, 6 pairs are not either, whose permutation test decides
        difference = needed_noncentrality(5, paired) * math.sqrt(variance / 5)
        for factor, more in ((1.001, '1 more eval seed'), (0.999, f'{next_up} more eval seeds')):
            told = more_runs('eval seed', sides, -factor * difference)
            assert told.startswith(f'about {more} of these checkpoints')


def test_a_difference_without_spread_is_settled_at_once() -> None:
    told = more_runs('train seed', [arrays([1, 1], [1, 1])], 1.0)
    assert told.startswith('about 1 more train seed (x 2 eval seeds)')


def study_of(tmp_path: Path, a: list, b: list) -> object:
    """A plan of two experiments without a train seed in common."""
    path = ledger_of(tmp_path / 'a.tsv', dict(a=a))
    rows = Ledger(ledger_of(tmp_path / 'b.tsv', dict(b=b))).read()
    (tmp_path / 'b.tsv').unlink()
    Ledger(tmp_path / 'b.tsv').append([replace(r, train_seed=r.train_seed + 9) for r in rows])
    return plan_study(*experiments_of(path, tmp_path / 'b.tsv'))


def test_freedom_of_two_groups_is_satterthwaites(tmp_path: Path) -> None:
    """Two train seeds are enough; the means' variances are 2 and 1, of 2 and 3 seeds."""
    study = study_of(tmp_path, [[40], [42]], [[50], [51], [52]])
    freedom = (2 + 1) ** 2 / (2**2 / 1 + 1**2 / 2)
    low, high = (math.sqrt(freedom / stats.chi2.ppf(q, freedom)) for q in (0.975, 0.025))
    assert study.factor == pytest.approx((low, high))
    assert study.deviation == pytest.approx(math.sqrt(3)) and study.seen == (2, 1)
    assert 'one eval seed a model: its share counts as that of training' in study.notes


def test_a_side_without_spread_leaves_the_freedom_of_the_other(tmp_path: Path) -> None:
    study = study_of(tmp_path, [[40, 40], [40, 40]], [[50, 50], [51, 51], [52, 52], [53, 53]])
    low, high = (math.sqrt(3 / stats.chi2.ppf(q, 3)) for q in (0.975, 0.025))
    assert study.factor == pytest.approx((low, high))
    assert not any('one eval seed' in note for note in study.notes)


def test_signs_by_hand() -> None:
    """Of all 16 sign patterns."""
    differences = np.array([3.0, 2.0, 1.0, -0.5])
    signs = np.array(list(itertools.product([1, -1], repeat=4)))
    sums = np.abs(signs @ differences)
    sign_flip, t_test = paired_tests(differences)
    assert sign_flip.p == pytest.approx(np.mean(sums >= differences.sum() - 1e-9))
    assert sign_flip.smallest == 2 / 16
    assert t_test.p == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)
