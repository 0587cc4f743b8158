"""What a study could show."""

import json
from pathlib import Path

import numpy as np
import pytest
from ledger_rows import experiments_of, ledger_of, summarize, two
from scipy import stats

from mmdiffdet.ledger.planning import smallest_difference
from mmdiffdet.ledger.study import plan_study


@pytest.mark.parametrize('count', [3, 5, 20])
def test_the_difference_is_found_four_times_in_five(count: int) -> None:
    rng = np.random.default_rng(count)
    difference = smallest_difference(0.7**2 / count, count - 1)
    found = rng.normal(difference, 0.7, (20000, count))
    power = (stats.ttest_1samp(found, 0, axis=1).pvalue <= 0.05).mean()
    assert power == pytest.approx(0.8, abs=0.01)


def test_unpaired_from_one_experiment(tmp_path: Path) -> None:
    """Two groups that vary like it; train and eval seeds are told apart."""
    rng = np.random.default_rng(0)
    runs = rng.normal(40, 1, (200, 1)) + rng.normal(0, 2, (200, 4))
    study = plan_study(two(tmp_path, runs, runs)[0])
    assert not study.paired and study.seen == (200, 4)
    assert study.spread.train == pytest.approx(2 * 1, rel=0.3)
    assert study.spread.evaluation == pytest.approx(2 * 4, rel=0.1)
    variance = study.spread.train + study.spread.evaluation / 4
    assert study.smallest[5] == pytest.approx(smallest_difference(variance / 5, 8))
    assert list(study.smallest.values()) == sorted(study.smallest.values(), reverse=True)
    low, high = study.factor
    assert low < 1 < high < 1.2


def test_pairs_cancel_what_both_have_in_common(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(40, 3, (4, 1)) + np.zeros((4, 2))
    b = a + rng.normal(1, 0.1, (4, 1))
    first, second = two(tmp_path, a, b)
    study = plan_study(first, second)
    assert study.paired
    assert study.smallest[3] < 1 < plan_study(first).smallest[3]
    assert study.smallest[4] == pytest.approx(
        smallest_difference(np.var((b - a).mean(1), ddof=1) / 4, 3)
    )


def test_tool(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = ledger_of(
        tmp_path / 'l.tsv', dict(a=rng.normal(40, 1, (3, 2)), b=rng.normal(41, 1, (3, 2)))
    )
    study = plan_study(experiments_of(path)[0])
    told = summarize(path, '--plan', 'a').stdout
    assert f'could show {study.smallest[3]:.2f} AP' in told
    assert 'two like a, unpaired' in told and '0.52 to 6.28 times' in told
    record = json.loads(summarize(path, '--plan', 'a', 'b', '--format', 'json').stdout)
    assert record['paired'] and record['seen'] == [3, 2]
    assert set(record['smallest']) == {'3', '4', '5', '6', '8', '10', '15', '20'}


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
