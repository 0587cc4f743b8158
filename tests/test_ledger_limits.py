"""Verdicts, notes, pairs and problems at the edges of their cases."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ledger_rows import ROW, grouped, ledger_of, results_of, two

from mmdiffdet.ledger import Ledger, Protocol
from mmdiffdet.ledger.comparison import compare, correct
from mmdiffdet.ledger.experiments import pool, select
from mmdiffdet.ledger.freeze import manifest_of, models_of
from mmdiffdet.ledger.hashing import merge
from mmdiffdet.ledger.ledger import not_a_ledger
from mmdiffdet.ledger.pareto import pareto_fronts
from mmdiffdet.ledger.problems import find_problems
from mmdiffdet.ledger.row import COLUMNS, parse_metric


def runs(name: str, values: dict, **columns: object) -> list:
    """Rows of one experiment; values[train seed][eval seed] are APs."""
    return [
        replace(
            ROW,
            exp_name=name,
            train_seed=train,
            eval_seed=seed,
            AP=float(ap),
            checkpoint_sha256=f'{name.encode().hex()}{"f" if train is None else train}'.zfill(64),
            **columns,
        )
        for train, of_train in values.items()
        for seed, ap in of_train.items()
    ]


# -- verdicts -------------------------------------------------------------------


def test_six_comparisons_whose_p_is_just_small_enough() -> None:
    """3 against 7 have p = 1 / 120 at best, which is 0.05 / 6."""
    a = runs('a', {t: {0: 40 + 0.1 * t} for t in range(3)})
    b = runs('b', {t: {0: 50 + 0.1 * t} for t in range(10, 17)})
    c = compare(*grouped([*a, *b]))
    together = correct([c] * 6)
    assert {x.decisive.name for x in together} == {"permutation of Welch's t"}
    assert together[0].corrected == 0.05 and together[0].verdict == 'better'
    assert not any('cannot give p below' in note for note in together[0].notes)
    seven = correct([c] * 7)[0]
    assert seven.decisive.name == "Welch's t"
    assert any('among 7 comparisons, so Welch' in note for note in seven.notes)


def test_an_interval_that_touches_zero_is_no_verdict(tmp_path: Path) -> None:
    a = np.full((6, 1), 40.0)
    better = compare(*two(tmp_path, a, a + [[0.1], [0.9], [0.2], [0.1], [0.5], [0.1]]))
    worse = compare(better.b, better.a)
    assert (better.verdict, worse.verdict) == ('better', 'worse')
    for touched in (replace(better, low=0.0), replace(worse, high=0.0)):
        assert touched.verdict == 'not distinguishable'
    assert replace(better, corrected=0.05).verdict == 'better'
    assert replace(better, corrected=0.0501).verdict == 'not distinguishable'


def test_corrected_values_are_probabilities_and_need_a_test(tmp_path: Path) -> None:
    a = np.full((6, 1), 40.0)
    doubtful = compare(*two(tmp_path / 'x', a, a + [[1], [-1], [1], [-1.1], [0.9], [0.3]]))
    assert doubtful.decisive.p > 0.5
    assert [x.corrected for x in correct([doubtful] * 2)] == [1.0, 1.0]
    # without variance there is no t-test, and six pairs give no p below 1 / 32
    constant = compare(*two(tmp_path / 'y', a, a + 1))
    assert constant.verdict == 'better'
    many = correct([constant, doubtful])
    assert many[0].decisive is None and many[0].corrected is None
    assert many[0].verdict == 'not distinguishable'
    assert any('6 train seeds among 2 comparisons, so nothing' in note for note in many[0].notes)


@pytest.mark.parametrize('count, told', [(9, 'about 94% of its width'), (10, None)])
def test_few_train_seeds_are_told(tmp_path: Path, count: int, told: str) -> None:
    a = np.random.default_rng(0).normal(40, 1, (count, 1))
    notes = compare(*two(tmp_path, a, a + 1 + 0.01 * a), resamples=100).notes
    assert any('too narrow' in note for note in notes) == (told is not None)
    assert told is None or any(told in note for note in notes)


def test_notes_of_what_is_not_decided(tmp_path: Path) -> None:
    close = compare(*two(tmp_path / 'x', [[40, 41]], [[40.5, 41.6]]))
    assert any('leaves out zero' in note for note in close.notes)
    assert any('2 eval seeds, so nothing is decided' in note for note in close.notes)
    across = compare(*two(tmp_path / 'y', [[40, 41]], [[40.5, 40.5]]))
    equal = compare(*two(tmp_path / 'z', [[40, 41]] * 3, [[40, 41]] * 3))
    for c in (across, equal):
        assert not any('leaves out zero' in note for note in c.notes)
    assert not any('cannot give p' in note or 'pools' in note for note in equal.notes)
    assert compare(*two(tmp_path / 'w', [[40, 41]], [[39.2, 40.1]])).verdict != 'worse'


def test_of_a_family_only_what_the_other_lacks_may_differ() -> None:
    """Steps, scheduler and eta, where one of them does not sample."""
    a, b = grouped(
        [*runs('a', {0: {0: 40, 1: 41}}), *runs('b', {0: {0: 42, 1: 43}}, model_family='Other')]
    )
    assert compare(a, b, across='model_family').difference == 2
    (c,) = grouped(runs('c', {0: {0: 42}}, model_family='Other', eta=0.0))
    with pytest.raises(ValueError, match='different protocols: eta'):
        compare(a, c, across='model_family')


def test_what_was_recorded_on_neither_side_is_told() -> None:
    (a,), (b,) = (grouped(runs(name, {0: {0: 40, 1: 41}}, eta=None)) for name in 'ab')
    assert any('not recorded on either side: eta;' in note for note in compare(a, b).notes)
    (a,), (b,) = (grouped(runs(name, {0: {0: 40, 1: 41}})) for name in 'ab')
    assert not any('not recorded' in note for note in compare(a, b).notes)


# -- pairs ----------------------------------------------------------------------


def test_one_train_seed_in_common_of_several_is_no_pairing() -> None:
    a = runs('a', {0: {0: 40}, 1: {0: 41}})
    for trains, pairing in (
        ((1, 2), 'unpaired: one train seed in common of 2 and 2'),
        ((0, 1), '2 pairs by (train seed, eval seed)'),
        ((1,), '1 pairs by (train seed, eval seed); without a partner and not used: 1 runs of A'),
    ):
        b = runs('b', {t: {0: 42} for t in trains})
        assert compare(*grouped([*a, *b])).pairing.startswith(pairing)


def test_train_seeds_that_were_not_recorded() -> None:
    """A single training on each side is enough for pairs by eval seed."""
    unknown = runs('a', {None: {0: 40, 1: 41, 2: 42}})
    c = compare(*grouped([*unknown, *runs('b', {3: {0: 42, 1: 43, 2: 44}})]))
    assert (c.pairing, c.difference, c.unit) == ('3 pairs by eval seed', 2, 'eval seed')
    c = compare(*grouped([*unknown, *runs('b', {3: {0: 42}, 4: {0: 43}})]))
    assert c.pairing == 'unpaired: train seeds were not recorded' and c.unit == 'none'


def test_one_result_against_each_eval_seed_of_one_training() -> None:
    for train in (None, 7):
        fixed = runs('a', {train: {0: 40}}, scheduler='none', eta=None, model_family='DETR')
        drawn = runs('b', {3: {0: 41, 5: 42, 6: 44}})
        c = compare(*grouped([*fixed, *drawn]), across='model_family')
        assert (c.pairing, c.difference) == ('3 pairs by eval seed', pytest.approx(7 / 3))


# -- names ----------------------------------------------------------------------


def test_selectors_that_match_nothing() -> None:
    experiments = grouped(
        [
            *runs('a', {0: {0: 40}}, config_sha256='d' * 64),
            *runs('a', {0: {0: 41}}, config_sha256='e' * 64, sample_step=20),
        ]
    )
    assert select(experiments, 'a@config=dd') is experiments[0]
    for text in ('a@config=f', 'a@config=', 'a@sample_step=2', 'a@no_such=1', 'a@precision=fp'):
        with pytest.raises(ValueError, match='there is: a@sample_step=1, a@sample_step=20'):
            select(experiments, text)
    with pytest.raises(ValueError, match="no experiment 'b'; there is none with a name like it"):
        select(experiments, 'b')


def test_labels_have_the_shortest_selector() -> None:
    """Two experiments that differ in the number of steps and in the scheduler."""
    other = runs('a', {0: {0: 41}}, sample_step=4, scheduler='DPMSolverMultistepScheduler')
    labels = [e.label for e in grouped([*runs('a', {0: {0: 40}}), *other])]
    assert labels == ['a@sample_step=1', 'a@sample_step=4']


def test_a_pool_names_both_that_hold_a_seed() -> None:
    a = runs('a', {0: {0: 40}, 1: {0: 41}})
    b = runs('b', {2: {0: 41}, 1: {0: 42, 1: 43}})
    with pytest.raises(ValueError, match='train seed 1, eval seed 0 is in l.tsv:3 and in l.tsv:5;'):
        pool(grouped([*a, *b]), 'x')


def test_text_of_a_protocol() -> None:
    assert 'annotation_sha256=cccccccc;' in str(ROW.protocol)
    assert str(Protocol(scheduler='x', eta=0.5)).startswith('scheduler=x; eta=0.5; not recorded: ')


# -- problems -------------------------------------------------------------------


def problems(tmp_path: Path, *rows: list) -> list:
    path = tmp_path / 'l.tsv'
    path.unlink(missing_ok=True)
    Ledger(path).append([row for some in rows for row in some])
    return find_problems(results_of(path))


def test_so_many_equal_numbers_are_no_chance(tmp_path: Path) -> None:
    """Three metrics, of detectors that find something."""
    none = dict(AP50=None, AP75=None, APs=None, APm=None, APl=None)
    for known, ap, told in (
        (dict(AP50=50.0, APl=60.0), 40.0, True),
        (dict(AP50=50.0), 40.0, False),
        (dict(AP50=0.0, APl=0.0), 0.0, False),
        (dict(AP50=1.0, APl=1.0), 1.0, True),
    ):
        columns = {**none, **known}
        rows = [runs(name, {0: {0: ap}}, **columns) for name in 'ab']
        assert bool(problems(tmp_path, *rows)) == told


def test_contradictions_come_before_duplicates(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path / 'l.tsv', dict(a=[[40.0]], b=[[41.0]]))
    ledger_of(tmp_path / 'm.tsv', dict(a=[[40.0]], b=[[42.0]]))
    found = find_problems(results_of(ledger, tmp_path / 'm.tsv'))
    kinds = [problem.split(':')[0] for problem in found]
    assert kinds[:2] == ['contradiction', 'duplicate']


def test_runs_without_a_train_seed_are_counted(tmp_path: Path) -> None:
    alone = runs('a', {None: {0: 40, 1: 41}})
    assert problems(tmp_path, alone) == []
    (told,) = problems(tmp_path, alone, runs('a', {0: {0: 42}}))
    assert told.startswith('a: 2 runs without a train seed (')


def test_pools_of_three_configs_name_them_all(tmp_path: Path) -> None:
    rows = [row for i, c in enumerate('def') for row in runs(c, {i: {0: 40}}, config_sha256=c * 64)]
    mixed = pool(grouped(rows), 'all')
    notes = compare(mixed, mixed).notes
    assert any('3 configs, dddddddd, eeeeeeee and ffffffff: its mean' in note for note in notes)


# -- the front ------------------------------------------------------------------


def test_what_is_on_no_front_is_told_with_its_reason() -> None:
    good = runs('good', {0: {0: 40, 1: 41}})
    several = [replace(r, device=f'GPU {r.eval_seed}') for r in runs('several', {0: {0: 1, 1: 2}})]
    twice = runs('twice', {0: {0: 40}}) + [
        replace(r, checkpoint_sha256='f' * 64) for r in runs('twice', {0: {0: 41}})
    ]
    (front,), left_out = pareto_fronts(grouped([*good, *several, *twice]), resamples=100)
    assert [p['experiment'] for p in front.front] == ['good'] and front.beaten == []
    assert front.front[0]['interval'] is not None  # of two runs
    assert left_out == [
        'not on a front, as they were timed on several devices: several',
        'not on a front, as they contradict themselves: twice',
    ]
    with pytest.raises(ValueError, match='nothing to compare\n.*have no APs: good'):
        pareto_fronts(grouped(good), 'APs')


# -- files ----------------------------------------------------------------------


def test_models_of_a_deliverable_have_one_protocol_and_config() -> None:
    rows = [ROW, replace(ROW, eval_seed=1, AP=50.0)]
    others = [replace(ROW, sample_step=4), replace(ROW, config_sha256='d' * 64)]
    models = models_of([*rows, *others])
    assert models == [rows, *([row] for row in others)]
    lines = manifest_of(models)
    half = (50.0 - ROW.AP) / 2
    assert [line['AP_std'] for line in lines] == [f'{half:.6f}', 'n/a', 'n/a']
    assert [line['config'] for line in lines] == [f'configs/00{i}.py' for i in range(3)]


def test_header_of_which_half_is_missing() -> None:
    """With more than half the columns missing it is a file of another kind."""
    half = len(COLUMNS) // 2
    assert not_a_ledger('\t'.join(COLUMNS[half:])).startswith(
        f'not a ledger of this version; columns missing: {", ".join(map(repr, COLUMNS[:half]))}'
    )
    assert 'its columns must be' in not_a_ledger('\t'.join(COLUMNS[half + 1 :]))
    assert "missing: 'time'" in not_a_ledger('\t'.join(c for c in COLUMNS if c != 'time'))


@pytest.mark.parametrize(
    'value, metric',
    [('', None), ('n/a', None), ('nan', None), (-1, None), (-100.0, None), (0, 0), (100, 100)],
)
def test_metrics_that_are_there_and_not(value: object, metric: float) -> None:
    assert parse_metric(value) == metric
    for bad in (100.5, -0.5, -2):
        with pytest.raises(ValueError, match='from 0 to 100'):
            parse_metric(bad)


def test_the_largest_seed_fits_a_column() -> None:
    assert replace(ROW, train_seed=2**63 - 1).train_seed == 2**63 - 1
    with pytest.raises(ValueError, match='train_seed must be below'):
        replace(ROW, train_seed=2**63)


def test_a_change_replaces_what_is_no_mapping() -> None:
    cfg = dict(a=1, b=dict(x=1, y=2), c=dict(z=3))
    merge(cfg, dict(a=dict(k=4), b=dict(x=5), c=None, d=dict(w=6)))
    assert cfg == dict(a=dict(k=4), b=dict(x=5, y=2), c=None, d=dict(w=6))
