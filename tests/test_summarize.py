"""Means, spreads, comparisons and what is refused."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ledger_rows import (
    ROW,
    experiments_of,
    ledger_of,
    results_of,
    summarize,
    table_of,
    two,
)

from mmdiffdet.ledger import Ledger
from mmdiffdet.ledger.comparison import compare
from mmdiffdet.ledger.experiments import group, pool, select
from mmdiffdet.ledger.problems import find_problems
from mmdiffdet.ledger.protocol import PROTOCOL_FIELDS
from mmdiffdet.ledger.statistics import summarise
from mmdiffdet.reports.text import FORMATS


# -- reading ------------------------------------------------------------------
def test_seed_table_is_split_by_its_variants(tmp_path: Path) -> None:
    path = tmp_path / 'sweep_seed3_step5_results.tsv'
    table_of(path, 'scale\teval_seed\tAP\n0.0\t0\t40\n0.0\t1\t42\n0.1\t0\t50')
    text = path.read_text()
    text = text.replace('0\t40\tnan\tnan\t7', '0\t40\tnan\tnan\tnan')
    text = text.replace('1\t42\tnan\tnan\t7', '1\t42\tnan\tnan\t')
    path.write_bytes(text.replace('\n', '\r\n').encode())
    first, second = experiments_of(tmp_path)
    assert (first.label, second.label) == (
        'sweep_seed3_step5@scale=0.0',
        'sweep_seed3_step5@scale=0.1',
    )
    assert summarise(first.runs).mean == 41
    assert summarise(first.runs).std == 1
    assert summarise(first.runs, 'APs').mean is None
    assert summarise(second.runs, 'APs').n == 1
    assert first.runs.train_seed.iloc[0] == 3
    assert first.protocol.sample_step == 5
    assert 'eta' in first.protocol.unrecorded
    for style in ('table', 'tsv', 'md', 'html', 'json'):
        text = summarize(tmp_path, '--metric', 'APs', '--format', style).stdout
        assert 'nan' not in text.lower()
        assert ('null' if style == 'json' else 'n/a') in text


def test_merged_table_is_one_experiment(tmp_path: Path) -> None:
    path = tmp_path / 'mix_step1.tsv'
    header = 'train_seed\texp_name\teval_seed\tAP\n'
    table_of(path, header + '0\ta_seed0_lr1\t0\t40\n1\ta_seed1_lr2\t0\t42')
    (mix,) = experiments_of(path)
    assert summarise(mix.runs).mean == 41 and len(mix.names) == 2
    table_of(path, header + '0\ta_seed0_lr1\t0\t40\n0\ta_seed0_lr2\t0\t42')
    assert [e.label for e in experiments_of(path)] == [
        'mix_step1@exp_name=a_seed0_lr1',
        'mix_step1@exp_name=a_seed0_lr2',
    ]


@pytest.mark.parametrize(
    'name, text, message',
    [
        ('x.tsv', 'eval_seed\tAP\n0\t40,5', 'x.tsv:2: AP could not convert'),
        ('x.tsv', 'eval_seed\tAP\n0\t400', 'x.tsv:2: AP must be from 0 to 100'),
        ('x.tsv', 'eval_seed\tAP\n\t40', 'x.tsv:2: eval_seed is missing'),
        ('x.tsv', 'eval_seed\tAP\na\t40', 'x.tsv:2: eval_seed must be a number'),
        ('x.tsv', 'eval_seed\tAP\n-1\t40', 'x.tsv:2: eval_seed must be from 0 to'),
        ('x.tsv', f'eval_seed\tAP\n{2**70}\t40', 'x.tsv:2: eval_seed must be from 0 to'),
        ('x.tsv', 'eval_seed\tAP\n0\t40\t1', 'x.tsv:2: has 9 columns instead of 8'),
        (
            'x_step1.tsv',
            'sample_step\teval_seed\tAP\n5\t0\t40',
            'x_step1.tsv:2: sample_step is 5 in its column and 1 in',
        ),
    ],
)
def test_malformed_line_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    table_of(tmp_path / name, text)
    done = summarize(tmp_path)
    assert done.returncode == 1 and done.stdout == ''
    assert message in done.stderr


@pytest.mark.parametrize(
    'text, message',
    [
        ('seed\tmAP\n0\t40\n', ':1: not a table of results'),
        ('', ':1: not a table of results'),
        ('mean_AP\tstd_AP_pop\tresults_tsv\n\t1\ty.tsv\n', ':2: mean_AP and std_AP_pop must be'),
        ('mean_AP\tstd_AP_pop\tresults_tsv\n1\t1\n', ':2: has 2 columns instead of 3'),
        (
            'mean_AP\tstd_AP_pop\tresults_tsv\n1\t1\ta\0\n',
            ':2: results_tsv holds a control character',
        ),
        ('LR\tmean_AP\tstd_AP_pop\tresults_tsv\n', ':1: not a table of results'),
        (b'\xff\xfea\x00', ': not UTF-8 text'),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: object, message: str) -> None:
    (tmp_path / 'x.tsv').write_bytes(text if isinstance(text, bytes) else text.encode())
    done = summarize(tmp_path)
    assert done.returncode == 1 and done.stdout == ''
    assert f'x.tsv{message}' in done.stderr


@pytest.mark.parametrize('break_it', ['renamed', 'added', 'missing', 'twice', 'order'])
def test_no_table_is_taken_for_another(tmp_path: Path, break_it: str) -> None:
    """A column that is not known is no setting; one that is missing is told."""
    ledger = ledger_of(tmp_path / 'l.tsv', dict(a=[[40, 41]]))
    foreign = table_of(tmp_path / 'x_step1.tsv', 'scale\teval_seed\tAP\n0\t0\t40\n0\t1\t41')
    for path, column in ((ledger, 'config_sha256'), (ledger, 'AP'), (foreign, 'AP50')):
        lines = [line.split('\t') for line in path.read_text().splitlines()]
        at = lines[0].index(column)
        for number, cells in enumerate(lines):
            if break_it == 'renamed' and not number:
                cells[at] += '_old'
            elif break_it == 'added':
                cells.insert(at, 'note')
            elif break_it == 'missing':
                del cells[at]
            elif break_it == 'twice':
                cells.append(cells[at])
            elif break_it == 'order' and path is ledger:
                cells[at], cells[at + 1] = cells[at + 1], cells[at]
        broken = tmp_path / 'broken' / path.name
        broken.parent.mkdir(exist_ok=True)
        broken.write_text(''.join('\t'.join(cells) + '\n' for cells in lines))
        done = summarize(broken)
        if break_it == 'order' and path is foreign:
            assert done.returncode == 0  # the same table
            continue
        assert done.returncode == 1 and f'{broken}:1: not a table' in done.stderr
        if path is ledger:
            told = dict(renamed=f"unknown: '{column}_old'", added="unknown: 'note'")
            told.update(missing=f"missing: '{column}'")
            assert told.get(break_it, 'another order or twice') in done.stderr
            before = broken.read_bytes()
            with pytest.raises(ValueError, match='l.tsv:1: not a ledger'):
                Ledger(broken).append([ROW])
            assert broken.read_bytes() == before


def test_missing_files_are_named(tmp_path: Path) -> None:
    assert 'holds no .tsv' in summarize(tmp_path).stderr
    gone = summarize(tmp_path / 'gone.tsv')
    assert gone.returncode == 1 and 'gone.tsv' in gone.stderr


# -- averaging ----------------------------------------------------------------
def test_spread_is_told_apart(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(40, 2, (4, 3))
    (experiment,) = experiments_of(ledger_of(tmp_path / 'l.tsv', dict(a=values)))
    s = summarise(experiment.runs)
    assert (s.n, s.seeds) == (12, '4x3')
    assert s.mean == pytest.approx(values.mean(), abs=1e-12)
    assert s.std == pytest.approx(values.std(), abs=1e-12)
    assert s.across == pytest.approx(values.mean(1).std(), abs=1e-12)
    assert s.std**2 == pytest.approx(s.across**2 + s.within**2)
    assert s.seconds_per_image == pytest.approx(0.1)


def test_unequal_numbers_of_runs(tmp_path: Path) -> None:
    (experiment,) = experiments_of(ledger_of(tmp_path / 'l.tsv', dict(a=[[40], [50, 52, 54]])))
    s = summarise(experiment.runs)
    assert (s.seeds, s.mean, s.mean_of_means) == ('2x1-3', 49, 46)
    assert s.within == pytest.approx(np.std([50, 52, 54]))


def test_one_seed_has_no_spread(tmp_path: Path) -> None:
    (one,) = experiments_of(ledger_of(tmp_path / 'l.tsv', dict(a=[[40]])))
    s = summarise(one.runs)
    assert (s.std, s.across, s.within) == (None, None, None)
    (many,) = experiments_of(ledger_of(tmp_path / 'm.tsv', dict(a=[[40, 42]])))
    s = summarise(many.runs)
    assert (s.std, s.across, s.within) == (1, None, 1)


@pytest.mark.parametrize(
    'field, value',
    [
        ('annotation_sha256', 'd' * 64),
        ('sample_step', 4),
        ('scheduler', 'DPMSolverMultistepScheduler'),
        ('eta', 0.0),
        ('model_family', 'DETR'),
        ('precision', 'bf16'),
    ],
)
def test_protocols_are_never_averaged(tmp_path: Path, field: str, value: object) -> None:
    ledger = ledger_of(tmp_path / 'l.tsv', dict(a=[[40, 41]]))
    ledger_of(ledger, dict(a=[[50, 51]]), **{field: value})
    first, second = experiments_of(ledger)
    assert summarise(first.runs).mean == 40.5
    shown = value[:8] if field.endswith('sha256') else value
    assert second.label == f'a@{field}={shown}'
    done = summarize(ledger, '--compare', first.label, second.label)
    assert done.returncode == 1 and f'{field} ' in done.stderr
    assert str(second.protocol) in done.stderr
    done = summarize(ledger, '--compare', first.label, second.label, '--across', field)
    assert done.returncode == 0 and '+10.0000 AP' in done.stdout
    with pytest.raises(ValueError, match=f'different protocols: {field}'):
        pool([first, second], 'all')


def test_configs_are_not_averaged(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path / 'l.tsv', dict(a=[[40]]))
    ledger_of(ledger, dict(a=[[50]]), config_sha256='d' * 64)
    first, second = experiments_of(ledger)
    assert second.label == 'a@config=dddddddd'
    assert select([first, second], 'a@config=dddd') is second


def test_hashes_that_begin_alike_are_labels_in_full(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path / 'l.tsv', dict(a=[[40]]), config_sha256='d' * 64)
    ledger_of(ledger, dict(a=[[50]]), config_sha256='d' * 63 + 'e')
    assert [e.label for e in experiments_of(ledger)] == [
        f'a@config={"d" * 64}',
        f'a@config={"d" * 63}e',
    ]


def test_names_with_an_at_sign_are_selected_like_others(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path / 'l.tsv', {'a@iter_5': [[40]]})
    ledger_of(ledger, {'a@iter_5': [[50]]}, sample_step=20)
    ledger_of(ledger, {'a': [[60]]})
    one, twenty, other = experiments_of(ledger)
    assert select([one, twenty, other], 'a@iter_5@sample_step=20,scheduler=DDIMScheduler') is twenty
    with pytest.raises(ValueError, match='means 2 experiments'):
        select([one, twenty, other], 'a@iter_5')
    assert select([one, twenty, other], 'a') is other


def test_across_must_name_what_differs(tmp_path: Path) -> None:
    a, b = two(tmp_path, [[40, 41]], [[42, 43]])
    with pytest.raises(ValueError, match='do not differ in it'):
        compare(a, b, across='eta')
    with pytest.raises(ValueError, match='not a field of the protocol'):
        compare(a, b, across='AP')


def test_an_eta_differs_with_the_scheduler_only_where_one_has_none(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path / 'l.tsv', dict(ddim=[[40, 41]]))
    ledger_of(ledger, dict(euler=[[42, 43]]), scheduler='EulerDiscreteScheduler', eta=None)
    ledger_of(ledger, dict(other=[[42, 43]]), scheduler='TCDScheduler', eta=0.0)
    ddim, euler, other = experiments_of(ledger)
    assert compare(ddim, euler, across='scheduler').difference == 2
    with pytest.raises(ValueError, match='different protocols: eta 1.0 against 0.0'):
        compare(ddim, other, across='scheduler')


def test_a_family_that_does_not_sample(tmp_path: Path) -> None:
    """Its steps, scheduler and eta differ because it has none."""
    rng = np.random.default_rng(0)
    ours = 50 + rng.normal(size=(3, 4))
    detr = np.array([[41.0], [42], [40]])
    path = ledger_of(tmp_path / 'l.tsv', dict(ours=ours), sample_step=20)
    ledger_of(path, dict(detr=detr), model_family='DETR', eta=None, scheduler='none')
    done = summarize(path, '--compare', 'detr', 'ours')
    assert done.returncode == 1 and 'scheduler none' in done.stderr
    done = summarize(path, '--compare', 'detr', 'ours', '--across', 'model_family')
    assert 'A does not sample' in done.stdout, done.stderr
    a, b = (select(experiments_of(path), n) for n in ('detr', 'ours'))
    found = compare(a, b, across='model_family')
    assert found.pairing == '12 pairs by (train seed, eval seed)'
    assert (found.unit, found.verdict) == ('train seed', 'better')
    assert found.difference == pytest.approx((ours - detr).mean())
    back = compare(b, a, across='model_family')
    assert back.difference == -found.difference
    # precision is no matter of the family
    ledger_of(path, dict(half=ours), precision='bf16')
    half = select(experiments_of(path), 'half')
    with pytest.raises(ValueError, match='different protocols: precision'):
        compare(a, half, across='model_family')


def test_pool_is_named_and_counts_nothing_twice(tmp_path: Path) -> None:
    for seed in range(3):
        table_of(
            tmp_path / f'a_seed{seed}_step1_results.tsv',
            f'eval_seed\tAP\n0\t{40 + seed}\n1\t{42 + seed}',
        )
    table_of(tmp_path / 'b_step1.tsv', 'eval_seed\tAP\n0\t40')
    done = summarize(tmp_path, '--pool', 'all a', 'a_seed*', '--format', 'tsv')
    rows = list(csv.DictReader(done.stdout.splitlines(), delimiter='\t'))
    assert rows[-1]['experiment'] == 'all a (pool of 3)'
    assert (rows[-1]['n'], rows[-1]['seeds']) == ('6', '3x2')
    assert rows[-1]['mean'] == '42.0000'
    experiments = experiments_of(tmp_path)
    with pytest.raises(ValueError, match='b_step1.tsv:2 has no train_seed'):
        pool(experiments, 'x')
    with pytest.raises(ValueError, match="no experiment matches 'c'"):
        pool(experiments, 'x', ['c'])
    with pytest.raises(ValueError, match='has that name already'):
        pool(experiments, 'b_step1', ['a_*'])
    copy = tmp_path / 'a_seed0_copy_step1.tsv'
    table_of(copy, 'eval_seed\tAP\n0\t40')
    with pytest.raises(ValueError, match='train seed 0, eval seed 0 is in'):
        pool(experiments_of(tmp_path), 'x', ['a_*'])


def test_a_pool_of_several_configs_is_told(tmp_path: Path) -> None:
    """Train seeds 0-1 were tested with one config, 2-3 with another."""
    ledger = ledger_of(tmp_path / 'l.tsv', dict(a=[[40], [41]], b=[[40], [41], [42], [41]]))
    other = Ledger(ledger_of(tmp_path / 'm.tsv', dict(a=[[42], [44]]), config_sha256='d' * 64))
    moved = [
        replace(r, train_seed=r.train_seed + 2, checkpoint_sha256=f'{r.train_seed + 2}' * 64)
        for r in other.read()
    ]
    other.path.unlink()
    Ledger(ledger).append(moved)
    told = 'all mixes runs of 2 configs, bbbbbbbb and dddddddd: its mean and spread are of no one'
    arguments = (ledger, '--pool', 'all', 'a@*')
    assert told in summarize(*arguments).stderr
    assert told in json.loads(summarize(*arguments, '--format', 'json').stdout)['problems'][-1]
    assert told in summarize(*arguments, '--compare', 'b', 'all').stderr
    assert 'mixes' not in summarize(ledger).stderr  # two experiments


# -- repetition and contradiction -------------------------------------------
def test_copy_counts_once_and_is_reported(tmp_path: Path) -> None:
    first = ledger_of(tmp_path / 'l.tsv', dict(a=[[40, 42]]))
    second = tmp_path / 'm.tsv'
    second.write_text(first.read_text())
    results = results_of(first, second, first)
    (experiment,) = group(results.runs)
    assert summarise(experiment.runs).n == 2
    (problem,) = find_problems(results)
    assert problem.startswith('duplicate: ') and 'eval seed 0, 1' in problem
    assert 'l.tsv:2 and ' in problem and 'm.tsv:2' in problem


def test_contradiction_is_reported_and_not_compared(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path / 'l.tsv', dict(a=[[40, 42]], b=[[40, 42]]))
    other = ledger_of(tmp_path / 'm.tsv', dict(a=[[40.5]]))
    done = summarize(ledger, other)
    assert 'a (contradictory)' in done.stdout
    assert 'contradiction: same checkpoint' in done.stderr
    assert 'AP 40.0 (' in done.stderr and 'against 40.5 (' in done.stderr
    done = summarize(ledger, other, '--compare', 'a', 'b')
    assert done.returncode == 1 and 'has several results' in done.stderr


def test_two_checkpoints_of_a_training_are_no_replicates(tmp_path: Path) -> None:
    ledger = Ledger(ledger_of(tmp_path / 'l.tsv', dict(a=[[40, 42]])))
    ledger.append(replace(r, checkpoint_sha256='f' * 64, AP=50.0) for r in ledger.read())
    results = results_of(ledger.path)
    assert any('train seed 0 has 2 checkpoints' in p for p in find_problems(results))
    (a,) = group(results.runs)
    with pytest.raises(ValueError, match='give each an exp_name of its own'):
        compare(a, a)


def test_checkpoint_of_two_train_seeds_is_reported(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / 'l.tsv')
    ledger.append([ROW, replace(ROW, eval_seed=1, train_seed=1)])
    assert any('has several train seeds: 0 (' in p for p in find_problems(results_of(ledger.path)))


def test_one_checkpoint_is_no_several_trainings(tmp_path: Path) -> None:
    """Three eval seeds of one model under three train seeds are no replicates."""
    ledger = Ledger(ledger_of(tmp_path / 'l.tsv', dict(a=[[40, 41], [42, 43], [41, 42]])))
    ledger.append(
        replace(ROW, exp_name='b', train_seed=i, eval_seed=i, AP=50.0 + i) for i in range(3)
    )
    done = summarize(ledger.path, '--compare', 'a', 'b')
    assert done.returncode == 1 and 'it is one training, not several' in done.stderr
    assert 'b (contradictory)' in summarize(ledger.path).stdout


def test_a_run_without_a_train_seed_is_no_replicate(tmp_path: Path) -> None:
    """It may be a training that is there already; nor are two of them one."""
    ledger = ledger_of(tmp_path / 'l.tsv', dict(a=[[40, 42], [41, 43]], b=[[40, 42], [41, 43]]))
    row = replace(ROW, exp_name='a', checkpoint_sha256='e' * 64, train_seed=None)
    Ledger(ledger).append([row])
    told = f'a: 1 run without a train seed ({ledger}:10) beside others that have one may be'
    done = summarize(ledger)
    assert 'a (contradictory)' in done.stdout and told in done.stderr
    for arguments in (('--compare', 'a', 'b'), ('--plan', 'a')):
        done = summarize(ledger, *arguments)
        assert done.returncode == 1 and told in done.stderr
        assert 'give them an exp_name of their own' in done.stderr
    other = Ledger(tmp_path / 'm.tsv')
    other.append(replace(row, checkpoint_sha256=c * 64, eval_seed=i) for i, c in enumerate('ef'))
    told = 'a: its runs without a train seed have 2 checkpoints (eeeeeeee, ffffffff)'
    assert told in summarize(other.path).stderr
    done = summarize(other.path, ledger, '--compare', 'a', 'b')
    assert done.returncode == 1 and told in done.stderr


def test_problems_of_a_name_with_blanks_are_told(tmp_path: Path) -> None:
    runs = {'my model': [[40, 41]], 'other': [[40, 41]]}
    done = summarize(ledger_of(tmp_path / 'l.tsv', runs), '--compare', 'my model', 'other')
    assert 'same numbers to the last digit: eval seed 0, 1 in my model and other' in done.stderr


def test_copied_numbers_without_an_object_of_a_size_are_told(tmp_path: Path) -> None:
    """APs and APm are n/a in both, as on a data set of large objects only."""
    ledger = ledger_of(tmp_path / 'l.tsv', dict(a=[[40.123]], b=[[40.123]], c=[[41.5]]))
    (problem,) = find_problems(results_of(ledger))
    assert problem.startswith('same numbers to the last digit: eval seed 0 in a and b;')


def test_setting_without_effect_is_reported(tmp_path: Path) -> None:
    full = dict(APs=1.0, APm=2.0)
    ledger = Ledger(tmp_path / 'l.tsv')
    ledger.append(
        [
            replace(ROW, **full),
            replace(ROW, config_sha256='d' * 64, **full),
            replace(ROW, config_sha256='e' * 64, AP=1.0, **full),
        ]
    )
    (problem,) = find_problems(results_of(ledger.path))
    assert problem.startswith('same numbers to the last digit: eval seed 0 in')
    assert 'd' * 8 in problem and 'e' * 8 not in problem


def test_stated_mean_is_checked(tmp_path: Path) -> None:
    table_of(tmp_path / 'x_results.tsv', 'eval_seed\tAP\n0\t40\n1\t42')
    summary = tmp_path / 'summary.tsv'
    header = 'GEO_FEAT_LR_MULT\tmean_AP\tstd_AP_pop\tresults_tsv\n'
    summary.write_text(header + '1\t41.00000\t1.00000\tx_results.tsv\n')
    done = summarize(tmp_path)
    assert 'summary@GEO_FEAT_LR_MULT=1' in done.stdout and done.stderr == ''
    summary.write_text(header + '1\t41.10000\t1.00000\tx_results.tsv\n')
    assert 'the runs of x_results.tsv give 41.0' in summarize(tmp_path).stderr
    assert 'which was not read' in summarize(summary).stderr


# -- output -------------------------------------------------------------------
def test_names_that_are_not_clear(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path / 'l.tsv', dict(a=[[40]]))
    ledger_of(ledger, dict(a=[[40]]), sample_step=4)
    experiments = experiments_of(ledger)
    with pytest.raises(ValueError, match='a@sample_step=1, a@sample_step=4'):
        select(experiments, 'a')
    with pytest.raises(ValueError, match="no experiment 'b'"):
        select(experiments, 'b')
    assert select(experiments, 'a@sample_step=4') is experiments[1]


def test_formats_say_the_same(tmp_path: Path) -> None:
    ledger = ledger_of(
        tmp_path / 'l.tsv',
        {'a|<b>': [[40, 41], [42, 43], [41, 42]], 'c': [[41, 42], [43, 44], [42, 43.5]]},
    )
    report = json.loads(summarize(ledger, '--format', 'json').stdout)
    assert report['experiments'][0]['mean'] == 41.5
    assert report['experiments'][0]['sample_step'] == 1
    html = summarize(ledger, '--format', 'html').stdout
    assert '<td>a|&lt;b&gt;</td>' in html and html.startswith('<table>')
    assert html.count('<tr>') == 3
    lines = summarize(ledger, '--format', 'tsv').stdout.splitlines()
    numbers = ['mean', 'std', 'mean_of_means', 'across', 'within', 'seconds_per_image']
    columns = ['experiment', 'n', 'seeds', *numbers, 'checkpoint', *PROTOCOL_FIELDS]
    assert lines[0].split('\t') == columns
    markdown = summarize(ledger, '--format', 'md').stdout.splitlines()
    assert markdown[2].startswith('| a\\|&lt;b&gt; | 6 | 3x2 | 41.5000 |')
    for style in ('table', 'md', 'html', 'tsv', 'json'):
        done = summarize(ledger, '--compare', 'a|<b>', 'c', '--format', style)
        assert done.returncode == 0 and 'better' in done.stdout
    assert json.loads(done.stdout)['difference'] == pytest.approx(6.5 / 6)


def test_cost_is_told_of_one_device_only(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path / 'l.tsv', dict(a=[[40, 41]]))
    ledger_of(ledger, dict(b=[[40, 41]]), seconds_per_image=0.25)
    text = summarize(ledger, '--compare', 'a', 'b').stdout
    assert 'B takes 2.50 times as long' in text
    ledger_of(ledger, dict(c=[[40, 41]]), device='GPU')
    text = summarize(ledger, '--compare', 'a', 'c').stdout
    assert 'on different devices' in text and 'times as long' not in text
    rows = [replace(r, device='GPU') if r.eval_seed else r for r in Ledger(ledger).read()]
    Ledger(ledger).append(rows, force=True)
    a = experiments_of(ledger)[0]
    assert summarise(a.runs).seconds_per_image is None


def test_manifest(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path / 'l.tsv', dict(a=[[40, 41], [42, 43]]))
    index = tmp_path / 'index.tsv'
    assert summarize(tmp_path, '--manifest', index).returncode == 0
    (row,) = csv.DictReader(index.read_text().splitlines(), delimiter='\t')
    assert (row['mean'], row['mean_APl']) == ('41.5000', '60.2500')
    assert row['mean_APs'] == 'n/a' and row['config'] == 'b' * 64
    assert len(row['checkpoint_sha256'].split(',')) == 2
    assert row['sources'] == str(ledger)
    # the index in the folder is no ledger
    assert summarize(tmp_path, '--manifest', index).returncode == 0


def test_names_are_text_in_every_format(tmp_path: Path) -> None:
    """Neither markup nor a formula, and no terminal is steered."""
    table_of(tmp_path / '=1+2\x1b[31m*b*[x](y)_step1.tsv', 'eval_seed\tAP\n0\t40\n1\t41')
    table_of(tmp_path / '<img src=x>_step1.tsv', 'eval_seed\tAP\n0\t40\n1\t41')
    out = {style: summarize(tmp_path, '--format', style) for style in FORMATS}
    for done in out.values():
        assert done.returncode == 0
        assert '\x1b' not in done.stdout + done.stderr
    assert ' =1+2\\x1b[31m*b*' in out['table'].stdout
    assert "\n'=1+2\\x1b[31m*b*[x](y)_step1\t" in out['tsv'].stdout
    assert '| =1+2\\\\x1b\\[31m\\*b\\*\\[x\\](y)\\_step1 |' in out['md'].stdout
    assert '| &lt;img src=x&gt;\\_step1 |' in out['md'].stdout
    assert '<img' not in out['html'].stdout
    for name in ('nothing\x1b[31m', tmp_path / '\x1b[31m.tsv'):
        done = summarize(tmp_path, '--compare', name, 'b') if isinstance(name, str) else None
        done = done or summarize(name)
        assert done.returncode == 1 and '\x1b' not in done.stderr and '\\x1b[31m' in done.stderr


def test_the_index_overwrites_nothing_else(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path / 'l.tsv', dict(a=[[40]]))
    before = ledger.read_bytes()
    done = summarize(ledger, '--manifest', ledger)
    assert done.returncode == 1 and 'l.tsv: is there and no index' in done.stderr
    assert ledger.read_bytes() == before
