"""Tables of results of the Detectron2 system, at the borders of what they may hold."""

from pathlib import Path

import pytest

from mmdiffdet.convert.detectron2_tables import read_detectron2_table

METRICS = ['AP', 'AP50', 'AP75', 'APs', 'APm', 'APl']
COLUMNS = ['eval_seed', *METRICS, 'out_dir']
VALUES = ['0', '40', '60', '45', '10', '20', '30', 'out']


def read(name='x.tsv', **more):
    """The only run of a table; None stands for a column that is not there."""
    row = {k: v for k, v in {**dict(zip(COLUMNS, VALUES)), **more}.items() if v is not None}
    found = read_detectron2_table(Path(name), ['\t'.join(row), '\t'.join(row.values())])
    return found and found[0][0]


def test_a_run_says_what_its_columns_say():
    run = read(
        'a_results.tsv',
        exp_name='a',
        train_seed='2',
        sample_step='4',
        ckpt_path='c.pth',
        ckpt_sha256='',
        config_file='n/a',
        inference_s_per_img='0.5',
        inference_fps='2',
    )
    run.pop('source'), run.pop('variant')
    assert run == dict(
        dict(zip(METRICS, map(float, VALUES[1:-1]))),
        exp_name='a',
        train_seed=2,
        eval_seed=0,
        checkpoint='c.pth',
        checkpoint_sha256=None,
        config=None,
        sample_step=4,
        seconds_per_image=0.5,
        is_row=False,
        line=2,
        experiment='a',
    )


@pytest.mark.parametrize(
    'name, step, seed',
    [
        ('a_seed3_step5', 5, 3),
        ('seed3_step5_results', 5, 3),
        ('a_seed3_seed3_step5', 5, 3),
        ('a_seed3_seed4_step5', 5, None),
        ('seed0warmstart_step', None, None),
        ('aseed3_step5x', None, None),
    ],
)
def test_steps_and_seed_of_a_name(name, step, seed):
    """Where no column has them; two different ones are none."""
    run = read(f'{name}.tsv')
    assert (run['sample_step'], run['train_seed']) == (step, seed)
    run = read('a_seed7.tsv', exp_name=name)
    assert run['train_seed'] == seed  # the experiment's name before the file's


def test_columns_make_the_table():
    assert read() is not None
    names = 'variant mode langevin_steps scale max_iter geo_feat_lr_mult exp_name ckpt_path'
    every = f'{names} ckpt_sha256 config_file train_seed sample_step inference_s_per_img'
    run = read(**dict.fromkeys([*every.split(), 'inference_fps'], '3'))
    assert [name for name, _ in run['variant']] == names.split()[:6]
    assert read(AP50=None) is None
    assert read(other='1') is None
    assert read(ckpt_path='a') is None  # without the columns beside it
    assert read(inference_s_per_img='1') is None
    twice = ['\t'.join([*COLUMNS, 'AP']), '\t'.join([*VALUES, '41'])]
    assert read_detectron2_table(Path('x.tsv'), twice) is None


@pytest.mark.parametrize(
    'columns, message',
    [
        (dict(eval_seed=f'{2**63 - 1}'), ''),
        (dict(eval_seed=f'{2**63}'), 'eval_seed must be from 0 to'),
        (dict(train_seed='-1'), 'train_seed must be from 0 to'),
        (dict(train_seed='1.0'), "train_seed must be a number, got '1.0'"),
        (dict(train_seed='0'), ''),
        (dict(sample_step='3'), 'sample_step is 3 in its column and 1 in'),
        (dict(sample_step='1'), ''),
        (dict(inference_s_per_img='inf', inference_fps='1'), 'inference_s_per_img must be finite'),
        (dict(eval_seed='nan'), 'eval_seed is missing'),
    ],
)
def test_values_at_their_limits(columns, message):
    if not message:
        assert read('x_step1.tsv', **columns)['line'] == 2
        return
    with pytest.raises(ValueError) as told:
        read('x_step1.tsv', **columns)
    assert str(told.value).startswith(f'x_step1.tsv:2: {message}')


def test_stated_means():
    lines = ['GEO_FEAT_LR_MULT\tmean_AP\tstd_AP_pop\tresults_tsv', '25\t40.5\t0\ta.tsv']
    runs, (stated,) = read_detectron2_table(Path('b_step3_results.tsv'), lines)
    assert runs == []
    assert stated == dict(
        variant=(('GEO_FEAT_LR_MULT', '25'),),
        sample_step=3,
        mean=40.5,
        std=0.0,
        runs_file='a.tsv',
        source=Path('b_step3_results.tsv'),
        line=2,
        experiment='b_step3',
    )
    for row in ('25\t\t0\ta.tsv', '25\t40\tnan\ta.tsv'):
        with pytest.raises(ValueError, match='tsv:2: mean_AP and std_AP_pop must be given'):
            read_detectron2_table(Path('b.tsv'), [lines[0], row])
