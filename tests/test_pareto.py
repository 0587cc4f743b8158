"""The settings that no other beats in both metric and cost."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ledger_rows import experiments_of, ledger_of, summarize, table_of

from mmdiffdet.ledger import Ledger
from mmdiffdet.ledger.pareto import pareto_fronts


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """AP and seconds; slow_bad, equal and bad are beaten."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.5, (4, 3))
    noise -= noise.mean()
    path = tmp_path / 'l.tsv'
    settings = dict(bad=(30, 0.1), fast=(40, 0.1), slow=(45, 0.4), slow_bad=(44.9, 0.5))
    for name, (ap, seconds) in {**settings, 'equal': (40, 0.2)}.items():
        ledger_of(path, {name: ap + noise}, seconds_per_image=seconds)
    return path


def test_front(ledger: Path) -> None:
    (front,), left_out = pareto_fronts(experiments_of(ledger))
    assert left_out == []
    assert [p['experiment'] for p in front.front] == ['fast', 'slow']
    assert front.beaten == ['bad', 'equal', 'slow_bad']
    fast, slow = front.front
    assert fast['mean'] == pytest.approx(40) and fast['seconds_per_image'] == pytest.approx(0.1)
    assert fast['interval'][0] < 40 < fast['interval'][1]
    assert fast['seconds_interval'] == pytest.approx((0.1, 0.1))
    # nothing costs less than it and comes near it
    assert fast['share'] == 1 and slow['share'] == 1


def test_share_tells_a_front_by_chance(tmp_path: Path) -> None:
    """Two settings of the same spread and mean, but for a hair, of other train seeds."""
    rng = np.random.default_rng(0)
    values = rng.normal(40, 1, (5, 3))
    path = ledger_of(tmp_path / 'l.tsv', dict(a=values), seconds_per_image=0.1)
    other = Ledger(ledger_of(tmp_path / 'm.tsv', dict(b=values + 0.001), seconds_per_image=0.2))
    Ledger(path).append(replace(r, train_seed=r.train_seed + 5) for r in other.read())
    (front,), _ = pareto_fronts(experiments_of(path))
    assert [p['experiment'] for p in front.front] == ['a', 'b']
    assert 0.4 < front.front[1]['share'] < 0.6


def test_shared_seeds_are_resampled_together(tmp_path: Path) -> None:
    """What all settings of a train seed have in common is no chance between them."""
    rng = np.random.default_rng(0)
    values = rng.normal(40, 1, (5, 1)) + rng.normal(0, 0.3, (5, 3))
    path = ledger_of(tmp_path / 'l.tsv', dict(a=values), seconds_per_image=0.1)
    ledger_of(path, dict(b=values + 0.001), seconds_per_image=0.2)
    # only the train seeds are shared: eval noise is drawn for each setting
    ledger_of(path, dict(c=values[:, :2].mean(1, keepdims=True) + 1), seconds_per_image=0.3)
    (front,), _ = pareto_fronts(experiments_of(path))
    a, b, c = front.front
    assert b['share'] == 1 and c['share'] > 0.99
    assert b['interval'] == pytest.approx(tuple(end + 0.001 for end in a['interval']))


def test_devices_and_data_sets_are_kept_apart(ledger: Path) -> None:
    ledger_of(ledger, dict(gpu=[[50, 51]]), device='GPU', seconds_per_image=0.01)
    ledger_of(ledger, dict(other=[[60]]), annotation_sha256='d' * 64)
    ledger_of(ledger, dict(untimed=[[70]]), seconds_per_image=None)
    table_of(ledger.parent / 'x_seed0_step1.tsv', 'eval_seed\tAP\n0\t40')
    fronts, left_out = pareto_fronts(experiments_of(ledger, ledger.parent / 'x_seed0_step1.tsv'))
    found = [(f.device, [p['experiment'] for p in f.front]) for f in fronts]
    assert found == [('Some CPU', ['fast', 'slow']), ('GPU', ['gpu']), ('Some CPU', ['other'])]
    assert fronts[2].front[0]['interval'] is None  # of one run
    assert left_out == ['not on a front, as they have no seconds_per_image: untimed, x_seed0_step1']


@pytest.mark.parametrize('style', ['tsv', 'md', 'html'])
def test_every_style_says_whose_front_it_is(style: str, ledger: Path) -> None:
    ledger_of(ledger, dict(gpu=[[50, 51]]), device='GPU', seconds_per_image=0.01)
    lines = summarize(ledger, '--pareto', '--format', style).stdout.splitlines()
    assert [line.count('Some CPU') for line in lines if 'slow' in line] == [1]
    assert [line.count('GPU') for line in lines if 'gpu' in line] == [1]
    assert sum('seconds_per_image' in line for line in lines) == 1


def test_tool(ledger: Path, tmp_path: Path) -> None:
    text = summarize(ledger, '--pareto').stdout
    assert 'demo; cccccccc; Some CPU' in text and 'beaten: bad, equal, slow_bad' in text
    lines = summarize(ledger, '--pareto', '--format', 'tsv').stdout.splitlines()
    rows = list(csv.reader(lines, delimiter='\t'))
    assert [row[-1] for row in rows] == ['experiment', 'fast', 'slow']
    assert rows[1][5] == '40.0000' and len(set(rows[0])) == len(rows[0])
    (front,) = json.loads(summarize(ledger, '--pareto', '--format', 'json').stdout)
    assert front['front'][1]['sample_step'] == 1 and front['beaten'] == ['bad', 'equal', 'slow_bad']
    table = table_of(tmp_path / 'x_seed0_step1.tsv', 'eval_seed\tAP\n0\t40')
    done = summarize(table, '--pareto')
    assert done.returncode == 1 and 'have no seconds_per_image: x_seed0_step1' in done.stderr
    assert 'ask one' in summarize(ledger, '--pareto', '--plan', 'fast').stderr
