"""A sample of spoilt data sets in each run; more by tests/mutate_data.py."""

import mutate_data
import pytest

FORMATS = ('coco', 'lvis', 'voc', 'odgt', 'yolo')


def need(kind):
    if kind == 'lvis':
        pytest.importorskip('lvis', reason='pip install lvis')


@pytest.mark.parametrize('kind', FORMATS)
def test_data_that_is_not_spoilt(kind, tmp_path):
    need(kind)
    mutate_data.init_default_scope('mmdiffdet')
    cfg = mutate_data.write(tmp_path / 'data', kind)
    objects, metrics = mutate_data.use(cfg)
    assert objects == 8
    assert mutate_data.outcome(cfg, tmp_path / 'data', kind, '').kind == 'ok'
    if 'coco/bbox_mAP' in metrics:
        assert metrics['coco/bbox_mAP'] == pytest.approx(1)


@pytest.mark.parametrize('kind', FORMATS)
def test_no_mutant_ends_badly(kind):
    need(kind)
    found = [mutate_data.run(kind, seed) for seed in range(12)]
    bad = [f'{o.kind}: {o.what}: {o.text}' for o in found if o.kind not in mutate_data.GOOD]
    assert not bad, '\n'.join(bad)
    assert len({o.what for o in found}) > 6


def test_bad_ends_are_noticed(tmp_path, monkeypatch):
    """The judge itself: lost objects, tracebacks, errors without a name, no end."""
    mutate_data.init_default_scope('mmdiffdet')
    cfg = mutate_data.write(tmp_path / 'data', 'coco')

    def judged(use):
        monkeypatch.setattr(mutate_data, 'use', use)
        return mutate_data.outcome(cfg, tmp_path / 'data', 'coco', '').kind

    def fail(error):
        raise error

    def wait():
        while True:
            pass

    monkeypatch.setattr(mutate_data, 'SECONDS', 1)
    assert judged(lambda cfg: (7, {})) == 'silent'
    assert judged(lambda cfg: (8, {'coco/bbox_mAP': 0.5})) == 'silent'
    assert judged(lambda cfg: fail(KeyError('x'))) == 'traceback'
    assert judged(lambda cfg: fail(ValueError('bad'))) == 'unnamed'
    assert judged(lambda cfg: fail(ValueError(f'{tmp_path}/data: bad'))) == 'unchecked'
    assert judged(lambda cfg: wait()) == 'hang'
