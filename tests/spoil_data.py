"""Ways to spoil a data set of five_formats.py; for mutate_data.py."""

import copy
import json
import os
import random
import re
from pathlib import Path
from typing import Any, Iterator, Tuple

import cv2
import numpy as np
import yaml
from PIL import Image

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
