"""Annotation files of COCO, LVIS and CrowdHuman at the limits of what they may say."""

import json
import warnings

import cv2
import five_formats
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmdiffdet.datasets import CocoDataset, CrowdHumanDataset, LVISV1Dataset
from mmdiffdet.datasets.coco_file import is_number, read_coco, same_id
from mmdiffdet.datasets.crowdhuman import read_odgt
from mmdiffdet.datasets.from_file import use_classes_of_file
from mmdiffdet.datasets.loading import repeated
from mmdiffdet.datasets.lvis import read_lvis

CLASSES = dict(classes=('red', 'green', 'blue'))


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmdiffdet')


def coco(path, boxes=((5, 6, 10, 10),), size=(64, 48), **more):
    """A file of one image, of one class; ``more`` is of each annotation."""
    annotations = [
        dict(id=i, image_id=1, category_id=1, bbox=list(box)) for i, box in enumerate(boxes, 1)
    ]
    for key, values in more.items():
        for annotation, value in zip(annotations, values):
            annotation[key] = value
    content = dict(
        images=[dict(id=1, file_name='a.png', width=size[0], height=size[1])],
        annotations=annotations,
        categories=[dict(id=1, name='red')],
    )
    path.write_text(json.dumps(content))
    return str(path)


def told_by(build):
    """The warnings that it gives, and what it returns."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter('always')
        result = build()
    return [str(w.message) for w in told if issubclass(w.category, UserWarning)], result


# -- COCO ---------------------------------------------------------------------
def test_numbers_that_could_be_pixels():
    assert all(map(is_number, (0, -3.5, 999999999, -999999999)))
    for other in (1e9, -1e9, 1.5e9, -1.5e9, float('nan'), float('inf'), True, '1', None):
        assert not is_number(other), other


def test_ids_that_are_long():
    """Up to 39 digits text is a number."""
    assert same_id('1' * 39) == int('1' * 39)
    assert same_id('1' * 40) == '1' * 40


@pytest.mark.parametrize(
    'box, area, expected',
    [
        ((1, 2, 3, 4), None, 12),
        ((1, 2, -3, -4), None, 0),
        ((1, 2, -3, 4), None, 0),
        ((0, 0, 9e8, 9e8), None, 1e10),
        ((1, 2, 3, 4), 0, 0),
        ((1, 2, 3, 4), 7.5, 7.5),
        ((1, 2, 3, 4), 1e10, 1e10),
        ((1, 2, 3, 4), 1.5e10, None),
        ((1, 2, 3, 4), -0.1, None),
        ((1, 2, 3, 4), True, None),
    ],
)
def test_areas(box, area, expected, tmp_path):
    path = coco(tmp_path / 'a.json', [box], area=[area])
    if expected is None:
        with pytest.raises(ValueError, match='annotation id 1 .*area must be a number'):
            read_coco(path)
    else:
        assert read_coco(path)['annotations'][0]['area'] == expected


def test_marks_of_crowds(tmp_path):
    marks = dict(iscrowd=[None, 0, 1, True], ignore=[1, 0, None, 1.0])
    found = read_coco(coco(tmp_path / 'a.json', [(1, 1, 2, 2)] * 4, **marks))['annotations']
    assert [a['iscrowd'] for a in found] == [0, 0, 1, 1]
    assert [a['ignore'] for a in found] == [1, 0, 0, 1]
    with pytest.raises(ValueError, match='ignore must be 0 or 1, got 2'):
        read_coco(coco(tmp_path / 'a.json', ignore=[2]))


@pytest.mark.parametrize('width, ok', [(1, True), (64.0, True), (0, False), (0.5, False)])
def test_sides_of_images(width, ok, tmp_path):
    path = coco(tmp_path / 'a.json', size=(width, 48))
    if ok:
        image = read_coco(path)['images'][0]
        assert type(image['width']) is int and image['width'] == width
    else:
        with pytest.raises(ValueError, match='width must be pixels'):
            read_coco(path)


@pytest.mark.parametrize(
    'ids, expected, twice',
    [
        ([1, 9, 5], [1, 9, 5], None),
        ([0, 9, 5], [1, 2, 3], None),
        ([3, 3, 5], [1, 2, 3], 1),
        ([3, 3, 3], [1, 2, 3], 2),
        ([None, None, 5], [1, 2, 3], None),
        ([None, 5, 5], [1, 2, 3], 1),
        ([None, 'a', 5], [1, 2, 3], None),
        ([None, None, None], [1, 2, 3], None),
        ([0, 0, 1], [1, 2, 3], 1),
    ],
)
def test_ids_of_annotations_are_counted_anew(ids, expected, twice, tmp_path):
    path = coco(tmp_path / 'a.json', [(1, 1, 2, 2)] * 3, id=ids)
    told, content = told_by(lambda: read_coco(path))
    assert [a['id'] for a in content['annotations']] == expected
    assert len(told) == (twice is not None)
    assert not told or f'a.json: {twice} annotation ids stand twice' in told[0]


def coco_set(root, *boxes, classes=('red',), **options):
    more = {k: options.pop(k) for k in ('ignore', 'iscrowd') if k in options}
    coco(root / 'a.json', boxes, **more)
    options = dict(dict(test_mode=True, pipeline=[], data_prefix=dict(img='')), **options)
    return lambda: CocoDataset(
        data_root=str(root), ann_file='a.json', metainfo=dict(classes=classes), **options
    )


def test_boxes_that_reach_out_of_their_image(tmp_path):
    """By more than a pixel, in 64x48: x, y, width and height."""
    told, _ = told_by(coco_set(tmp_path, (-1, -1, 66, 50)))
    assert told == []
    outside = [(-1.5, 0, 9, 9), (0, -1.5, 9, 9), (60, 0, 5.5, 9), (0, 40, 9, 9.5)]
    for box in outside:
        (told,), _ = told_by(coco_set(tmp_path, (1, 1, 9, 9), box))
        x, y, w, h = box
        assert f'1 box(es) reach out of their image by more than a pixel ({tmp_path}' in told
        assert f'{[x, y, x + w, y + h]})' in told
    (told,), _ = told_by(coco_set(tmp_path, *outside))
    assert 'a.json: 4 box(es) reach out' in told


@pytest.mark.parametrize('crowd, test_mode, count', [(0, False, 0), (1, False, 1), (1, True, 0)])
def test_nothing_to_learn_from_is_told(crowd, test_mode, count, tmp_path):
    build = coco_set(tmp_path, (1, 1, 9, 9), iscrowd=[crowd], test_mode=test_mode)
    told, _ = told_by(build)
    assert [text for text in told if 'not one object to learn from in 1 images' in text] == told
    assert len(told) == count


def test_what_is_left_out_is_counted_by_its_reason(tmp_path):
    good, marked, flat = (1, 1, 9, 9), (2, 2, 9, 9), (3, 3, 0, 9)
    build = coco_set(tmp_path, good, *[marked] * 4, flat, ignore=[0, 1, 1, 1, 1, 0])
    told, dataset = told_by(build)
    assert len(dataset.get_data_info(0)['instances']) == 1
    assert [text.split('a.json: ')[1] for text in told] == [
        'left out 4 annotation(s) marked "ignore", ids [2, 3, 4]',
        'left out 1 box(es) without area, below a pixel or outside of their image',
    ]
    told, _ = told_by(coco_set(tmp_path, good, ignore=[0]))
    assert told == []


def test_annotations_of_nothing_that_is_listed(tmp_path):
    """Each kind with its number, and three examples."""
    path = tmp_path / 'a.json'
    content = json.loads(open(coco(path, [(1, 1, 9, 9)] * 9)).read())
    for annotation, category in zip(content['annotations'], (7, 8, 7, 9, 10)):
        annotation['category_id'] = category
    for annotation in content['annotations'][5:8]:
        annotation['image_id'] = 5
    path.write_text(json.dumps(content))
    options = dict(metainfo=dict(classes=('red',)), data_prefix=dict(img=''), pipeline=[])
    told, dataset = told_by(lambda: CocoDataset(ann_file=str(path), **options))
    assert [text.split('left out ')[1] for text in told] == [
        '5 annotation(s) of categories [7, 8, 9] that are not listed, ids [1, 2, 3]',
        '3 annotation(s) of images that are not listed, ids [6, 7, 8]',
    ]
    assert len(dataset.get_data_info(0)['instances']) == 1


LONG = 'x' * 99


@pytest.mark.parametrize(
    'entry, key, value, shown',
    [
        ('annotations', None, LONG, 'annotation 0: must be an object, got "' + 'x' * 59),
        ('annotations', 'bbox', LONG, 'got "' + 'x' * 79),
        ('annotations', 'area', LONG, 'got "' + 'x' * 59),
        ('annotations', 'iscrowd', LONG, 'got "' + 'x' * 59),
        ('annotations', 'category_id', [LONG], '["' + 'x' * 58 + ' is no id: it must be a whole'),
        ('images', 'width', LONG, 'got "' + 'x' * 59),
        ('categories', 'name', [LONG], 'got ["' + 'x' * 58),
        ('images', 'id', [LONG], 'image id ["' + 'x' * 38 + ': ["'),
        ('annotations', 'image_id', [LONG], 'annotation id 1 of image id ["' + 'x' * 38 + ': ["'),
    ],
)
def test_what_is_quoted_of_a_file_is_short(entry, key, value, shown, tmp_path):
    """An error stays a line, whatever stands in the file."""
    path = tmp_path / 'a.json'
    content = json.loads(open(coco(path)).read())
    if key is None:
        content[entry][0] = value
    else:
        content[entry][0][key] = value
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError) as told:
        read_coco(str(path))
    text = str(told.value)
    assert shown in text and (text.endswith(shown) or not shown.endswith('x'))


def test_a_class_of_a_config_stands_once(tmp_path):
    with pytest.raises(ValueError, match='metainfo.classes has a name twice'):
        coco_set(tmp_path, (1, 1, 9, 9), classes=('red', 'red'))()
    with pytest.raises(ValueError, match=r"has no categories \['blue'\]"):
        coco_set(tmp_path, (1, 1, 9, 9), classes=('red', 'blue'))()
    assert repeated('abcbca') == ['a', 'b', 'c'] and repeated('abc') == []


@pytest.mark.parametrize('asked', [True, False])
def test_classes_from_a_file_without_any(asked, tmp_path):
    content = dict(images=[], annotations=[], categories=[])
    (tmp_path / 'a.json').write_text(json.dumps(content))
    dataset = dict(type='CocoDataset', ann_file=str(tmp_path / 'a.json'))
    cfg = Config(dict(train_dataloader=dict(dataset=dataset)))
    if asked:
        cfg.train_dataloader.dataset.metainfo = dict(classes='from_file')
        with pytest.raises(ValueError, match='a.json has no classes'):
            use_classes_of_file(cfg)
    else:
        use_classes_of_file(cfg)
        assert 'metainfo' not in cfg.train_dataloader.dataset


# -- LVIS ---------------------------------------------------------------------
def lvis_content(tmp_path):
    five_formats.write(tmp_path / 'data', 'lvis')
    return json.loads((tmp_path / 'data/train.json').read_text())


def lvis_file(tmp_path, content):
    (tmp_path / 'l.json').write_text(json.dumps(content))
    return str(tmp_path / 'l.json')


@pytest.mark.parametrize(
    'spoil, message',
    [
        (lambda c: c['categories'][1].update(id='x'), "categories: id must be a number, got 'x'"),
        (lambda c: c['images'][1].update(id='x'), "images: id must be a number, got 'x'"),
        (lambda c: c['categories'][1].update(frequency='z'), 'id 2: frequency must be r, c or f'),
        (lambda c: c['images'][2].update(neg_category_ids=[1, 4]), 'image id 2: neg_category_ids'),
        (lambda c: c['images'][2].update(neg_category_ids=['1']), 'image id 2: neg_category_ids'),
        (
            lambda c: c['images'][2].pop('not_exhaustive_category_ids'),
            'image id 2: not_exhaustive_category_ids must be a list of ids',
        ),
        (lambda c: c['images'][2].update(coco_url=7, file_name='a'), 'coco_url must be text'),
    ],
)
def test_lvis_files_that_are_not(spoil, message, tmp_path):
    content = lvis_content(tmp_path)
    spoil(content)
    for annotation in content['annotations']:
        annotation.update(image_id=0, category_id=1)
    with pytest.raises(ValueError, match=f'l.json: .*{message}'):
        read_lvis(lvis_file(tmp_path, content))


def test_lvis_labels_are_in_the_order_of_ids(tmp_path):
    content = lvis_content(tmp_path)
    content['categories'].reverse()
    options = dict(ann_file=lvis_file(tmp_path, content), pipeline=[], test_mode=True)
    options['data_prefix'] = dict(img='')
    dataset = LVISV1Dataset(metainfo=CLASSES, **options)
    assert dataset.cat_ids == [1, 2, 3]
    truth = [a for a in content['annotations'] if a['image_id'] == 1]
    info = dataset.get_data_info(1)
    assert info['img_path'] == '1.jpg'
    assert [i['bbox_label'] for i in info['instances']] == [a['category_id'] - 1 for a in truth]
    with pytest.raises(ValueError, match="id 1, 'red', is number 0 by its id and number 1 of"):
        LVISV1Dataset(metainfo=dict(classes=('green', 'red', 'blue')), **options)
    with pytest.raises(ValueError, match='has 3 categories, metainfo.classes 2'):
        LVISV1Dataset(metainfo=dict(classes=('red', 'green')), **options)
    # other spellings are the same class by their place
    assert len(LVISV1Dataset(metainfo=dict(classes=('Red', 'green', 'blue')), **options)) == 4


# -- CrowdHuman ---------------------------------------------------------------
PERSON = dict(tag='person', fbox=[1, 2, 8, 9])


@pytest.mark.parametrize(
    'record, message',
    [
        (dict(ID='a', gtboxes=[PERSON]), ''),
        (dict(ID='a', gtboxes=[dict(PERSON, extra=dict(ignore=1))]), ''),
        (dict(ID='a', gtboxes=[dict(PERSON, head_attr=dict(ignore=0))]), ''),
        (dict(ID='a', gtboxes=[dict(PERSON, vbox=[0, 0, 1, 1])]), ''),
        ([1], 'not an object'),
        (dict(ID='', gtboxes=[]), "'ID' must be text"),
        (dict(ID=3, gtboxes=[]), "'ID' must be text"),
        (dict(ID='a', gtboxes={}), "'gtboxes' must be a list"),
        (dict(ID='a', gtboxes='x' * 99), f"got '{'x' * 40}';"),
        (dict(ID='a', gtboxes=[dict(PERSON, fbox='x' * 99)]), f"got '{'x' * 60}';"),
        (dict(ID='a', gtboxes=[dict(fbox=[1, 2, 3, 4])]), 'a box without tag'),
        (dict(ID='a', gtboxes=[7]), 'a box without tag'),
        (dict(ID='a', gtboxes=[dict(tag='person')]), 'fbox must be four'),
        (dict(ID='a', gtboxes=[dict(PERSON, hbox=None)]), 'hbox must be four'),
        (dict(ID='a', gtboxes=[dict(PERSON, vbox=[1, 2, 3])]), 'vbox must be four'),
        (dict(ID='a', gtboxes=[dict(PERSON, fbox=[1, 2, 3, '4'])]), 'fbox must be four'),
        (dict(ID='a', gtboxes=[dict(PERSON, extra=[])]), 'extra must be an object'),
        (dict(ID='a', gtboxes=[dict(PERSON, extra=dict(ignore=2))]), "its 'ignore' 0 or 1"),
        (dict(ID='a', gtboxes=[dict(PERSON, head_attr=dict(ignore=2))]), 'head_attr must be'),
    ],
)
def test_records_of_crowdhuman(record, message, tmp_path):
    path = tmp_path / 'a.odgt'
    path.write_text('\n' + json.dumps(record) + '\n')
    if message:
        with pytest.raises(ValueError, match=rf'a.odgt:2: .*{message}'):
            read_odgt(str(path))
    else:
        assert read_odgt(str(path)) == [dict(record, line=2)]


def test_crowdhuman_ids_stand_once(tmp_path):
    path = tmp_path / 'a.odgt'
    lines = [json.dumps(dict(ID=name, gtboxes=[PERSON])) for name in 'aba']
    path.write_text(f'{lines[0]}\n\n{lines[1]}\n{lines[2]}\n')
    with pytest.raises(ValueError, match="a.odgt:4: ID 'a' stands in line 1 too"):
        read_odgt(str(path))


def crowdhuman(root, **options):
    options = dict(options, data_root=str(root), data_prefix=dict(img=''))
    return CrowdHumanDataset(ann_file='a.odgt', pipeline=[], **options)


def test_crowdhuman_leaves_out_with_a_word(tmp_path):
    flat = [dict(PERSON, fbox=[1, 2, 0, 9]), dict(PERSON, fbox=[1, 2, 8, -1])]
    marked = [dict(PERSON, extra=dict(ignore=1)), dict(PERSON, tag='mask')]
    tiny = dict(PERSON, fbox=[1, 2, 0.5, 0.5])
    boxes = dict(a=[PERSON], b=[*flat, PERSON, *marked], c=[flat[0], tiny])
    lines = [json.dumps(dict(ID=name, gtboxes=found)) for name, found in boxes.items()]
    (tmp_path / 'a.odgt').write_text('\n'.join(lines))
    for name in 'abc':
        cv2.imwrite(str(tmp_path / f'{name}.jpg'), np.zeros((48, 64, 3), np.uint8))
    (told,), dataset = told_by(lambda: crowdhuman(tmp_path))
    assert 'left out 3 box(es) without width or height, the first ones at' in told
    assert told.endswith('a.odgt:2')
    infos = [dataset.get_data_info(i) for i in range(3)]
    marks = [(i['bbox_label'], i['ignore_flag']) for i in infos[1]['instances']]
    assert marks == [(0, 0), (-1, 1), (-1, 1)] and dataset.get_cat_ids(1) == [0]
    assert infos[2]['instances'][0]['bbox'] == [1, 2, 1.5, 2.5]
    assert (infos[0]['width'], infos[0]['height']) == (64, 48)
    # an image without a header is left out of training alone
    (tmp_path / 'b.jpg').write_bytes(b'no image')
    told, dataset = told_by(lambda: crowdhuman(tmp_path, on_bad_image='skip'))
    assert [dataset.get_data_info(i)['img_id'] for i in range(len(dataset))] == ['a', 'c']
    assert any('bad image, left out' in text and 'b.jpg' in text for text in told)
    for options in (dict(), dict(on_bad_image='skip', test_mode=True)):
        with pytest.raises(ValueError, match='a.odgt:2: .*b.jpg cannot be decoded'):
            crowdhuman(tmp_path, **options)
