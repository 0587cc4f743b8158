"""What a study could show."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ledger_rows import ROW, experiments_of, grouped, ledger_of, summarize, two

from mmdiffdet.ledger.plan import plan_study
from mmdiffdet.ledger.power import needed_noncentrality, variance_of_difference
from mmdiffdet.ledger.resampling import paired_tests, unpaired_tests


@pytest.mark.parametrize(
    'count, paired',
    [(3, True), (5, True), (6, True), (7, True), (9, True), (12, True), (3, False), (4, False)]
    + [(6, False)],
)
def test_the_difference_is_found_four_times_in_five(count: int, paired: bool) -> None:
    """By the very test that decides a comparison, on other draws."""
    rng = np.random.default_rng(100 + count)
    value, found, draws = needed_noncentrality(count, paired), 0, 400
    for _ in range(draws):
        a, b = rng.normal(size=(2, count))
        if paired:
            tests = paired_tests(a + value / count**0.5)
        else:
            tests = unpaired_tests(a, b + value * (2 / count) ** 0.5)
        found += next(t for t in tests if t.smallest <= 0.05).p <= 0.05
    assert found / draws == pytest.approx(0.8, abs=0.07)


def test_a_permutation_test_of_few_wants_a_larger_difference() -> None:
    """Six pairs have 64 arrangements; a t-test would promise 3.5."""
    assert needed_noncentrality(6, True) == pytest.approx(4.42, abs=0.1)
    assert needed_noncentrality(5, True) == pytest.approx(3.76, abs=0.01)


def test_unpaired_from_one_experiment(tmp_path: Path) -> None:
    """Two groups that vary like it; train and eval seeds are told apart."""
    rng = np.random.default_rng(0)
    runs = rng.normal(40, 1, (300, 1)) + rng.normal(0, 2, (300, 4))
    study = plan_study(two(tmp_path, runs, runs)[0])
    assert not study.paired and study.seen == (300, 4)
    assert study.deviation == pytest.approx((2 * (1 + 4 / 4)) ** 0.5, rel=0.1)
    assert study.smallest[5] == pytest.approx(
        needed_noncentrality(5, False) * study.deviation / 5**0.5
    )
    assert study.smallest[20] < study.smallest[8] < study.smallest[3]
    low, high = study.factor
    assert low < 1 < high < 1.2


def test_a_side_with_one_eval_seed_keeps_the_noise_of_the_other() -> None:
    """Nothing but eval noise of deviation 2: each side has variance 4."""
    rng = np.random.default_rng(0)
    sides = [list(rng.normal(40, 2, (400, evals))) for evals in (5, 1)]
    assert variance_of_difference(sides, 1) == pytest.approx(8, rel=0.15)


def test_the_interval_of_the_spread_covers_it() -> None:
    """Of a study of 4 train seeds with 2 eval seeds, both of deviation 1."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        runs = rng.normal(40, 1, (4, 1)) + rng.normal(0, 1, (4, 2))
        study = plan_study(*_experiments(runs))
        low, high = (f * study.deviation for f in study.factor)
        covered += low <= 3**0.5 <= high
    assert 0.91 <= covered / 300 <= 0.99


def _experiments(runs: np.ndarray) -> list:
    rows = [
        replace(
            ROW,
            train_seed=t,
            eval_seed=e,
            AP=float(ap),
            checkpoint_sha256=str(t).zfill(64),
        )
        for t, values in enumerate(runs)
        for e, ap in enumerate(values)
    ]
    return grouped(rows)


def test_pairs_cancel_what_both_have_in_common(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(40, 3, (4, 1)) + np.zeros((4, 2))
    b = a + rng.normal(1, 0.1, (4, 1))
    first, second = two(tmp_path, a, b)
    study = plan_study(first, second)
    assert study.paired
    assert study.smallest[3] < 1 < plan_study(first).smallest[3]
    assert study.deviation == pytest.approx(np.std((b - a).mean(1), ddof=1))
    assert study.smallest[4] == pytest.approx(
        needed_noncentrality(4, True) * study.deviation / 4**0.5
    )


def test_tool(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = ledger_of(
        tmp_path / 'l.tsv', dict(a=rng.normal(40, 1, (3, 2)), b=rng.normal(41, 1, (3, 2)))
    )
    study = plan_study(experiments_of(path)[0])
    told = summarize(path, '--plan', 'a').stdout
    assert f'could show {study.smallest[3]:.2f} AP' in told
    assert f'deviate by {study.deviation:.4f} AP' in told
    assert 'two like a, unpaired' in told and '0.52 to 6.28 times that' in told
    record = json.loads(summarize(path, '--plan', 'a', 'b', '--format', 'json').stdout)
    assert record['paired'] and record['seen'] == [3, 2]
    assert set(record['smallest']) == {'3', '4', '5', '6', '8', '10', '15', '20'}


def test_contradicting_rows_are_no_ground_for_a_plan(tmp_path: Path) -> None:
    """The same seeds with other results, of other checkpoints."""
    ledger_of(tmp_path / 'l.tsv', dict(a=[[40.0], [40.1], [40.2]]))
    text = (tmp_path / 'l.tsv').read_text()
    ledger_of(tmp_path / 'm.tsv', dict(a=[[50.0], [30.1], [45.2]]))
    other = (tmp_path / 'm.tsv').read_text().replace('0' * 61, 'f' * 61)
    (tmp_path / 'm.tsv').write_text(other)
    result = summarize(tmp_path, '--plan', 'a')
    assert text != other and result.returncode and 'cannot plan: a' in result.stderr


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--plan', 'a', 'b', 'a'], 'one experiment or two'),
        (['--plan', 'a', '--compare', 'a', 'b'], 'ask one'),
        (['--plan', 'a', '--across', 'eta'], '--plan with A and B'),
        (['--plan', 'c'], 'no experiment'),
        (['--plan', 'one'], 'one train seed cannot show'),
        (['--plan', 'a', 'other'], 'different protocols'),
    ],
)
def test_errors(tmp_path: Path, arguments: list, message: str) -> None:
    ledger_of(tmp_path / 'l.tsv', dict(a=[[40.0], [41.0]], b=[[40.0], [41.5]], one=[[40.0, 41.0]]))
    ledger_of(tmp_path / 'm.tsv', dict(other=[[40.0], [41.0]]), eta=0.0)
    result = summarize(tmp_path, *arguments)
    assert result.returncode and message in result.stderr
