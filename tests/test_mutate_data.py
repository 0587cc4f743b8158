"""A sample of spoilt data sets in each run; more by tests/mutate_data.py."""

import json

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


def each(key, **changes):
    """A change of all entries of a list of the file; values may be functions."""

    def change(content):
        for entry in content[key]:
            for name, new in changes.items():
                entry[name] = new(entry[name]) if callable(new) else new

    return change


def first(**changes):
    return lambda content: content['annotations'][0].update(changes)


def both(*changes):
    return lambda content: [change(content) for change in changes]


REPORTS = dict(
    annotation_ids_twice=(each('annotations', id=1), 'warning'),
    image_ids_twice=(each('images', id=7), 'named'),
    ids_with_a_point=(both(each('images', id=float), each('annotations', image_id=float)), 'ok'),
    ids_as_text_on_one_side=(each('annotations', image_id=str), 'ok'),
    ids_as_text=(
        both(
            each('images', id=lambda i: f'img{i}'),
            each('annotations', image_id=lambda i: f'img{i}'),
        ),
        'ok',
    ),
    no_annotation_ids=(lambda c: [a.pop('id') for a in c['annotations']], 'ok'),
    large_ids=(
        both(
            each('images', id=lambda i: i + 2**62),
            each('annotations', image_id=lambda i: i + 2**62),
        ),
        'ok',
    ),
    categories_as_text=(each('annotations', category_id=str), 'ok'),
    unknown_images=(each('annotations', image_id=lambda i: i + 90), 'warning'),
    no_area=(lambda c: [a.pop('area') for a in c['annotations']], 'ok'),
    negative_sides=(first(bbox=[50, 50, -20, -10]), 'warning'),
    out_of_the_image=(first(bbox=[-30, -40, 400, 300]), 'warning'),
    corners_instead_of_sides=(first(bbox=[40, 30, 60, 45]), 'warning'),
    nan=(first(bbox=[float('nan'), 0, 10, 10]), 'named'),
    numbers_as_text=(first(bbox=['10', '20', '30.5', '40']), 'named'),
    five_numbers=(first(bbox=[1, 2, 3, 4, 5]), 'named'),
    relative=(first(bbox=[0.1, 0.2, 0.3, 0.4]), 'warning'),
    null=(first(bbox=None), 'named'),
    empty=(first(bbox=[]), 'named'),
    crowd_as_text=(first(iscrowd='0'), 'named'),
    ignored=(first(ignore=1), 'warning'),
    no_annotations=(lambda c: c.pop('annotations'), 'named'),
    sizes_swapped=(each('images', width=48, height=64), 'named'),
    classes_twice=(each('categories', name='red'), 'named'),
)


@pytest.mark.parametrize('name', REPORTS)
def test_what_people_reported(name, tmp_path):
    change, expected = REPORTS[name]
    mutate_data.init_default_scope('mmdiffdet')
    root = tmp_path / 'data'
    cfg = mutate_data.write(root, 'coco')
    content = json.loads((root / 'train.json').read_text())
    change(content)
    (root / 'train.json').write_text(json.dumps(content))
    found = mutate_data.outcome(cfg, root, 'coco', name)
    assert found.kind == expected, found
