"""A few kills and tamperings; ``kill_and_tamper.py`` makes as many as wanted."""

import os
import random

import pytest

if not hasattr(os, 'fork'):
    pytest.skip('tools run in forked processes', allow_module_level=True)

from kill_jobs import jobs_of
from mutate_inputs import Lab
from tamper import TAMPERINGS, Deliverable


@pytest.fixture(scope='module')
def jobs(tmp_path_factory):
    folder = tmp_path_factory.mktemp('kills')
    return jobs_of(Lab(folder), folder)


def test_nothing_is_lost_or_half_written(jobs):
    rng = random.Random(0)
    # 'ended': the tool was done before its kill came
    assert {job.kill(rng) for job in jobs} <= {'', 'ended'}


def test_what_a_kill_could_leave_is_noticed(jobs):
    """The judge itself."""
    training, testing, freezing, finalizing = (job.reference for job in jobs)
    assert all(job.whole(job.reference) == job.same(job.reference) == '' for job in jobs)
    path = training / 'iter_4.pth'
    path.write_bytes(path.read_bytes()[:1000])
    (finalizing / 'model.pth.sha256').write_text(f'{"0" * 64}  model.pth\n')
    (freezing / 'name/configs/000.py').write_text('')
    ledger = testing / 'ledger.tsv'
    deliverable = Deliverable(testing, ledger)
    ledger.write_text(ledger.read_text() + ledger.read_text().splitlines(True)[-1])
    assert 'iter_4.pth' in jobs[0].whole(training)
    assert 'stand twice' in jobs[1].whole(testing)
    assert 'has changed' in jobs[2].whole(freezing)
    assert 'is not of' in jobs[3].whole(finalizing)

    for number, kind in enumerate(TAMPERINGS):
        for hide in (False, True):
            found = deliverable.tamper(kind, hide, random.Random(number))
            assert found, (kind, hide)
    assert deliverable.tamper('', False, random.Random(0)) == []
