"""A few drawn faults of each kind; ``mutate_inputs.py`` draws as many as wanted."""

import os

import pytest

if not hasattr(os, 'fork'):
    pytest.skip('cases run in forked processes', allow_module_level=True)

from mutate_inputs import KINDS, Case, Lab, draw, outcome, run_tool


@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    return Lab(tmp_path_factory.mktemp('bad_inputs'))


@pytest.mark.parametrize('kind', KINDS)
def test_a_fault_is_told_in_one_line(lab, kind):
    found = {}
    for case in draw(lab, kind, 4, seed=0):
        code, text = run_tool(case.tool, case.argv, lab.folder)
        found[case.name] = (outcome(case, code, text), text[-500:])
    bad = {name: said for name, said in found.items() if said[0] not in ('ok', 'named')}
    assert not bad


def test_outcomes_are_told_apart():
    case = Case('options', 'x', 'test.py', [], ('model.neck', 'neck'))
    for code, text, expected in (
        (1, 'Loads x\nERROR: model.neck is wrong', 'named'),
        (2, 'usage: x\nx.py: error: --cfg-options neck', 'named'),
        (1, 'model.neck = 3\nERROR: something', 'unnamed'),
        (1, 'Traceback (most recent call last):\nERROR: neck', 'traceback'),
        (0, 'all is well, neck too', 'silent'),
        (0, '- WARNING - nothing reads neck', 'ok'),
        (-11, '', 'crash'),
        (-1000, '', 'hang'),
    ):
        assert outcome(case, code, text) == expected, text
    case.must_tell = False
    assert outcome(case, 0, '') == 'ok'


def test_the_seed_says_which_cases(lab):
    names = [[case.name for case in draw(lab, 'options', 8, seed)] for seed in (5, 5, 6)]
    assert names[0] == names[1] != names[2]
