"""Small data sets in five formats, and ways to spoil them; for mutate_data.py."""

import copy
import json
import os
import random
import re
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import cv2
import numpy as np
import yaml
from mmengine.config import Config
from PIL import Image

CLASSES = ('red', 'green', 'blue')
POOL: Tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 0.5, 7.0, 1e300, -1e300, 2**70, float('nan'), float('inf')),
    *(
        '',
        ' ',
        '1',
        '7',
        '1.0',
        'red',
        'nan',
        'x' * 300,
        'ü\u202e\n\x00',
        '../../etc/passwd',
        'http://x/y.jpg',
    ),
    *('a\\b.jpg', 'Red', ' red', '1,5', '5%', 1.5, 10**400, -0.0, 'true', '[]'),
    *([], {}, [1], [[1, 2]], {'id': 1}, [None] * 4, ['1', '2', '3', '4'], [1, 2, 3, 4, 5]),
)


def _boxes(rng: np.random.Generator) -> List[Tuple[int, int, int, int, int]]:
    return [
        (int(rng.integers(3)), int(rng.integers(1, 30)), int(rng.integers(1, 20)), 16, 18)
        for _ in range(2)
    ]


def write(root: Path, kind: str) -> Config:
    """A data set of four images of 64x48, eight objects; its config."""
    rng = np.random.default_rng(3)
    boxes = [_boxes(rng) for _ in range(4)]
    folder = {'voc': 'JPEGImages', 'yolo': 'images/train'}.get(kind, 'images')
    (root / folder).mkdir(parents=True)
    for i in range(4):
        image = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
        cv2.imwrite(str(root / folder / f'{i}.jpg'), image)
    return WRITERS[kind](root, boxes)


def _coco_content(boxes: list) -> dict:
    content = dict(
        images=[dict(id=i, file_name=f'{i}.jpg', width=64, height=48) for i in range(4)],
        annotations=[],
        categories=[dict(id=i + 1, name=name) for i, name in enumerate(CLASSES)],
    )
    for i, per_image in enumerate(boxes):
        for label, *box in per_image:
            number = len(content['annotations']) + 1
            content['annotations'].append(
                dict(
                    id=number,
                    image_id=i,
                    category_id=label + 1,
                    bbox=box,
                    area=box[2] * box[3],
                    iscrowd=0,
                )
            )
    return content


def _write_coco(root: Path, boxes: list) -> Config:
    (root / 'train.json').write_text(json.dumps(_coco_content(boxes)))
    return _config(root, 'CocoDataset', 'train.json', 'CocoMetric', own_file=True)


def _write_lvis(root: Path, boxes: list) -> Config:
    content = _coco_content(boxes)
    for image in content['images']:
        image['coco_url'] = f'http://images.cocodataset.org/{image.pop("file_name")}'
        image.update(neg_category_ids=[1], not_exhaustive_category_ids=[])
    for category, frequency in zip(content['categories'], 'rcf'):
        category['frequency'] = frequency
    (root / 'train.json').write_text(json.dumps(content))
    cfg = _config(root, 'LVISV1Dataset', 'train.json', 'LVISMetric', own_file=True)
    return _with_classes(cfg, CLASSES)


def _write_voc(root: Path, boxes: list) -> Config:
    for part in ('Annotations', 'ImageSets/Main'):
        (root / part).mkdir(parents=True)
    (root / 'ImageSets/Main/train.txt').write_text('0\n1\n2\n3\n')
    for i, per_image in enumerate(boxes):
        objects = ''.join(
            f'<object><name>{CLASSES[label]}</name><difficult>0</difficult><bndbox>'
            f'<xmin>{x + 1}</xmin><ymin>{y + 1}</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax>'
            '</bndbox></object>'
            for label, x, y, w, h in per_image
        )
        (root / f'Annotations/{i}.xml').write_text(
            '<annotation><size><width>64</width><height>48</height><depth>3</depth></size>'
            f'{objects}</annotation>'
        )
    cfg = _config(root, 'VOCDataset', 'ImageSets/Main/train.txt', 'CocoMetric')
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.data_prefix = dict(sub_data_root='')
    cfg.val_evaluator = [cfg.val_evaluator, dict(type='VOCMetric', metric='mAP', eval_mode='area')]
    return cfg


def _write_odgt(root: Path, boxes: list) -> Config:
    lines = [
        json.dumps(
            dict(
                ID=f'{i}',
                gtboxes=[
                    dict(tag='person', fbox=b, vbox=b, hbox=b, head_attr={}, extra=dict(ignore=0))
                    for _, *b in per_image
                ],
            )
        )
        for i, per_image in enumerate(boxes)
    ]
    (root / 'train.odgt').write_text('\n'.join(lines) + '\n')
    cfg = _config(root, 'CrowdHumanDataset', 'train.odgt', 'CrowdHumanMetric', own_file=True)
    cfg.val_evaluator.num_ji_process = 1
    cfg.val_evaluator.metric = ['AP', 'MR']  # JI starts processes
    return _with_classes(cfg, ('person',))


def _write_yolo(root: Path, boxes: list) -> Config:
    (root / 'labels/train').mkdir(parents=True)
    (root / 'data.yaml').write_text(yaml.safe_dump(dict(names=list(CLASSES), nc=3)))
    for i, per_image in enumerate(boxes):
        lines = [
            f'{label} {(x + w / 2) / 64} {(y + h / 2) / 48} {w / 64} {h / 48}'
            for label, x, y, w, h in per_image
        ]
        (root / f'labels/train/{i}.txt').write_text('\n'.join(lines) + '\n')
    return _config(root, 'YOLODataset', 'images/train', 'CocoMetric')


WRITERS: Dict[str, Callable[[Path, list], Config]] = dict(
    coco=_write_coco, lvis=_write_lvis, voc=_write_voc, odgt=_write_odgt, yolo=_write_yolo
)


def _config(root: Path, kind: str, ann_file: str, metric: str, own_file: bool = False) -> Config:
    dataset = dict(
        type=kind,
        data_root=f'{root}/',
        ann_file=ann_file,
        data_prefix=dict(img='' if kind == 'YOLODataset' else 'images/'),
        metainfo=dict(classes='from_file'),
        serialize_data=False,  # which collects garbage, most of the time that a mutant takes
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape')),
        ],
    )
    evaluator = dict(type=metric, metric='bbox')
    if own_file:
        evaluator['ann_file'] = str(root / ann_file)
    return Config(
        dict(
            train_dataloader=dict(dataset=copy.deepcopy(dataset)),
            val_dataloader=dict(dataset=dict(copy.deepcopy(dataset), test_mode=True)),
            val_evaluator=evaluator,
        )
    )


def _with_classes(cfg: Config, classes: Tuple[str, ...]) -> Config:
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.metainfo.classes = classes
    return cfg


def _places(tree: Any, path: tuple = ()) -> Iterator[tuple]:
    """Paths to all values below the top."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from _places(value, (*path, key))


def spoil_tree(tree: Any, rng: random.Random) -> str:
    """Change one value, key or entry of what JSON or YAML hold, in place."""
    places = list(_places(tree))
    depth = rng.choice(sorted({len(p) for p in places}))
    *path, key = rng.choice([p for p in places if len(p) == depth])
    parent = tree
    for step in path:
        parent = parent[step]
    where = '/'.join(map(str, (*path, key)))
    how = rng.choice(['value', 'value', 'value', 'delete', 'rename', 'twice', 'text'])
    if how == 'value':
        parent[key] = copy.deepcopy(rng.choice(POOL))
        return f'{where} = {str(parent[key])[:30]!r}'
    if how == 'delete':
        del parent[key]
    elif how == 'rename' and isinstance(parent, dict):
        parent[rng.choice([key.upper(), f' {key}', f'{key}s'])] = parent.pop(key)
    elif how == 'twice' and isinstance(parent, list):
        parent.append(copy.deepcopy(parent[key]))
    else:
        how = 'text'
        parent[key] = str(parent[key])
    return f'{how} {where}'


def spoil_bytes(path: Path, rng: random.Random) -> str:
    """Change a text file as tools and transfers do."""
    content = path.read_bytes()
    place = rng.randrange(len(content) + 1)
    how, result = rng.choice(
        [
            ('BOM', b'\xef\xbb\xbf' + content),
            ('UTF-16', content.decode('utf-8', 'replace').encode('utf-16')),
            ('CRLF', content.replace(b'\n', b'\r\n')),
            ('cut', content[:place]),
            ('empty', b''),
            ('NUL', content[:place] + b'\0' + content[place:]),
            ('not UTF-8', content[:place] + b'\xff\xfe' + content[place:]),
            ('garbage after it', content + b'\n}]</x>'),
            ('deep', b'[' * 100000),
            ('long number', b'1' * 6000),
            ('HTML', b'<!DOCTYPE html><html><body>404</body></html>'),
            ('blank lines', content.replace(b'\n', b'\n\n')),
        ]
    )
    path.write_bytes(result)
    return f'{how}: {path.name}'


def spoil_file(path: Path, rng: random.Random) -> str:
    """Put something else in the place of a file."""
    how = rng.choice(['gone', 'folder', 'FIFO', 'link to nothing', 'device'])
    path.unlink()
    if how == 'folder':
        path.mkdir()
    elif how == 'FIFO':
        os.mkfifo(path)
    elif how == 'link to nothing':
        path.symlink_to('nowhere')
    elif how == 'device':
        path.symlink_to('/dev/zero')
    return f'{how}: {path.name}'


def spoil_xml(path: Path, rng: random.Random) -> str:
    """Change a tag or a value."""
    text = path.read_text()
    tags = re.findall(r'<(\w+)>([^<]*)</\1>', text)
    tag, value = rng.choice(tags)
    other = str(rng.choice(POOL)).replace('<', '').replace('\x00', '')
    old = f'<{tag}>{value}</{tag}>'
    how, new = rng.choice(
        [
            (f'{tag} = {other[:20]!r}', f'<{tag}>{other}</{tag}>'),
            (f'{tag} = {other[:20]!r}', f'<{tag}>{other}</{tag}>'),
            (f'no {tag}', ''),
            (f'{tag} twice', old + old),
            (f'{tag} renamed', f'<{tag}x>{value}</{tag}x>'),
            (f'{tag} empty', f'<{tag}/>'),
            (f'{tag} with blanks', f'<{tag}>\n {value}\n</{tag}>'),
        ]
    )
    text = text.replace(old, new, 1)
    if rng.random() < 0.1:
        bomb = ''.join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10))
        text = f'<!DOCTYPE x [<!ENTITY a0 "ha">{bomb}]>' + text.replace(value, '&a9;', 1)
        how = 'entities of entities'
    path.write_text(text)
    return how


def spoil_labels(path: Path, rng: random.Random) -> str:
    """Change a field or a line of YOLO's labels."""
    lines = path.read_text().splitlines()
    i = rng.randrange(len(lines))
    fields = lines[i].split()
    j = rng.randrange(len(fields))
    how = rng.choice(['value', 'value', 'add', 'remove', 'commas', 'pixels', 'polygon', 'twice'])
    if how == 'value':
        fields[j] = str(rng.choice(POOL)).replace('\n', '').replace(' ', '_')
    elif how == 'add':
        fields.append('0.5')
    elif how == 'remove':
        del fields[j]
    elif how == 'pixels':
        fields[1:] = ['20', '20', '16', '18']
    elif how == 'polygon':
        fields[1:] = ['0.1', '0.1', '0.4', '0.1', '0.4', '0.5']
    lines[i] = (',' if how == 'commas' else ' ').join(fields)
    if how == 'twice':
        lines.append(lines[i])
    path.write_text('\n'.join(lines) + '\n')
    return f'label {how}: {lines[i][:40]}'


def spoil_image(path: Path, rng: random.Random) -> str:
    """Change an image as cameras, tools and transfers do."""
    image = cv2.imread(str(path))
    content = path.read_bytes()
    how = rng.choice(
        'cut half-cut flip empty text gray deep float rgba cmyk palette exif size tiny'.split()
    )
    if how == 'cut':
        path.write_bytes(content[: -rng.randrange(1, 30)])
    elif how == 'half-cut':
        path.write_bytes(content[: rng.randrange(len(content))])
    elif how == 'flip':
        spoilt = bytearray(content)
        for _ in range(rng.randrange(1, 20)):
            spoilt[rng.randrange(len(spoilt))] = rng.randrange(256)
        path.write_bytes(spoilt)
    elif how in ('empty', 'text'):
        path.write_bytes(b'' if how == 'empty' else b'<html>404</html>')
    elif how in ('gray', 'deep', 'float'):
        gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        kind = dict(gray=np.uint8, deep=np.uint16, float=np.float32)[how]
        suffix = '.png' if how != 'float' else '.tif'
        encoded = cv2.imencode(suffix, gray.astype(kind) * (1 if how == 'gray' else 16))[1]
        path.write_bytes(encoded.tobytes())
    elif how in ('rgba', 'cmyk', 'palette'):
        mode = dict(rgba='RGBA', cmyk='CMYK', palette='P')[how]
        form = 'JPEG' if how == 'cmyk' else 'PNG'
        Image.fromarray(image[..., ::-1]).convert(mode).save(path, format=form)
    elif how == 'exif':
        exif = Image.Exif()
        exif[0x0112] = rng.randrange(0, 10)
        Image.fromarray(image[..., ::-1]).save(path, exif=exif.tobytes())
    else:
        size = (65, 48) if how == 'size' else (1, 1)
        cv2.imwrite(str(path), cv2.resize(image, size))
    return f'image {how}: {path.name}'


def mutate(root: Path, kind: str, rng: random.Random) -> str:
    """Spoil one thing of a data set; says what."""
    images = sorted(root.rglob('*.jpg'))
    texts = sorted(p for p in root.rglob('*') if p.is_file() and p.suffix != '.jpg')
    target = rng.random()
    if target < 0.2:
        return spoil_image(rng.choice(images), rng)
    if target < 0.27:
        return spoil_file(rng.choice(images + texts), rng)
    path = rng.choice(texts)
    if target < 0.42:
        return spoil_bytes(path, rng)
    if kind in ('coco', 'lvis'):
        content = json.loads(path.read_text())
        told = [spoil_tree(content, rng) for _ in range(rng.choice([1, 1, 1, 2]))]
        path.write_text(json.dumps(content))
        return '; '.join(told)
    if kind == 'odgt':
        records = [json.loads(line) for line in path.read_text().splitlines()]
        told = spoil_tree(records, rng)
        path.write_text('\n'.join(map(json.dumps, records)) + '\n')
        return told
    if path.suffix == '.yaml':
        content = yaml.safe_load(path.read_text())
        told = spoil_tree(content, rng)
        path.write_text(yaml.safe_dump(content))
        return told
    if path.suffix == '.xml':
        return spoil_xml(path, rng)
    if kind == 'yolo':
        return spoil_labels(path, rng)
    return spoil_bytes(path, rng)
