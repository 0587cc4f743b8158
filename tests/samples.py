"""Tiny data sets in the formats in which the real ones come."""

import json
from pathlib import Path
from typing import Iterator, List, Tuple

import cv2
import mmdet.datasets
import numpy as np

Box = Tuple[int, int, int, int, int]  # class, x, y, width, height


def images(count: int, num_classes: int, seed: int = 0) -> Iterator[Tuple[np.ndarray, List[Box]]]:
    """64x48 images with one or two bright squares each."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        image = rng.integers(90, 160, (48, 64, 3), dtype=np.uint8)
        boxes = []
        for _ in range(rng.integers(1, 3)):
            x, y, side = rng.integers(1, 40), rng.integers(1, 24), 18
            label = int(rng.integers(num_classes))
            image[y : y + side, x : x + side] = (40 * label) % 256
            boxes.append((label, int(x), int(y), side, side))
        yield image, boxes


def _coco(
    folder: Path, name: str, files: List[str], classes: List[str], first_id: int = 1, **extra: dict
) -> dict:
    """Write images and give their annotations in COCO's form."""
    content = dict(
        images=[],
        annotations=[],
        categories=[dict(id=i + first_id, name=n) for i, n in enumerate(classes)],
    )
    few = min(len(classes), 3)
    for i, (file, (image, boxes)) in enumerate(zip(files, images(len(files), few))):
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image)
        content['images'].append(
            dict(
                id=i + 1,
                file_name=file,
                height=48,
                width=64,
                **{k: v(file) if callable(v) else v for k, v in extra.items()},
            )
        )
        for label, x, y, w, h in boxes:
            content['annotations'].append(
                dict(
                    id=len(content['annotations']) + 1,
                    image_id=i + 1,
                    category_id=label + first_id,
                    bbox=[x, y, w, h],
                    area=w * h,
                    iscrowd=0,
                    segmentation=[[x, y, x + w, y, x + w, y + h]],
                )
            )
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    return content


def write_lvis(root: Path) -> Path:
    """LVIS v1: 1203 classes, COCO's images named by ``coco_url``."""
    classes = mmdet.datasets.LVISV1Dataset.METAINFO['classes']
    for split, folder in (('train', 'train2017'), ('val', 'val2017')):
        files = [f'{folder}/{i:012d}.jpg' for i in range(1, 13)]
        name = f'annotations/lvis_v1_{split}.json'
        content = _coco(
            root,
            name,
            files,
            classes,
            coco_url=lambda f: f'http://images.cocodataset.org/{f}',
            neg_category_ids=[5],
            not_exhaustive_category_ids=[],
        )
        for image in content['images']:
            del image['file_name']
        for category, frequency in zip(content['categories'], 'rcf' * 401):
            category.update(frequency=frequency, image_count=4)
        (root / name).write_text(json.dumps(content))
    return root


def write_objects365(root: Path, version: int) -> Path:
    """Objects365: 365 classes, images in patches."""
    dataset = getattr(mmdet.datasets, f'Objects365V{version}Dataset')
    classes = list(dataset.METAINFO['classes'])
    for split in ('train', 'val'):
        if version == 1:
            name = f'annotations/objects365_{split}.json'
            files = [f'obj365_{split}_{i:012d}.jpg' for i in range(12)]
        else:
            name = f'annotations/zhiyuan_objv2_{split}.json'
            files = [f'patch0/objects365_v2_{i:08d}.jpg' for i in range(12)]
        content = _coco(root / split, 'x', files, classes)
        if version == 2:
            for image in content['images']:
                image['file_name'] = f'images/v2/{image["file_name"]}'
            # annotated, but not among the images that are shipped
            content['images'].append(
                dict(
                    id=99,
                    height=48,
                    width=64,
                    file_name='images/v2/patch16/objects365_v2_00908726.jpg',
                )
            )
        content['categories'].reverse()  # as disordered as the real ones
        (root / 'annotations').mkdir(exist_ok=True)
        (root / name).write_text(json.dumps(content))
    return root


def write_voc(root: Path) -> Path:
    """VOC 2007 and 2012: lists of names and an XML file an image."""
    classes = mmdet.datasets.VOCDataset.METAINFO['classes']
    for year, splits in (('2007', ('trainval', 'test')), ('2012', ('trainval',))):
        folder = root / f'VOC{year}'
        for part in ('JPEGImages', 'Annotations', 'ImageSets/Main'):
            (folder / part).mkdir(parents=True)
        for number, split in enumerate(splits):
            names = []
            for i, (image, boxes) in enumerate(images(12, 3, number)):
                names.append(f'{year}_{split}_{i:06d}')
                cv2.imwrite(str(folder / f'JPEGImages/{names[-1]}.jpg'), image)
                objects = ''.join(
                    f'<object><name>{classes[label]}</name><difficult>'
                    f'{int(j > 0)}</difficult><bndbox><xmin>{x + 1}</xmin>'
                    f'<ymin>{y + 1}</ymin><xmax>{x + w}</xmax><ymax>{y + h}'
                    '</ymax></bndbox></object>'
                    for j, (label, x, y, w, h) in enumerate(boxes)
                )
                (folder / f'Annotations/{names[-1]}.xml').write_text(
                    '<annotation><size><width>64</width><height>48</height>'
                    f'<depth>3</depth></size>{objects}</annotation>'
                )
            (folder / f'ImageSets/Main/{split}.txt').write_text('\n'.join(names) + '\n')
    return root


def write_crowdhuman(root: Path) -> Path:
    """CrowdHuman: a JSON object a line, full, visible and head boxes."""
    (root / 'Images').mkdir(parents=True)
    for split in ('train', 'val'):
        lines = []
        for i, (image, boxes) in enumerate(images(12, 1)):
            name = f'{split},{i:06x}'
            cv2.imwrite(str(root / f'Images/{name}.jpg'), image)
            people = [
                dict(
                    tag='person',
                    fbox=[x, y, w, h],
                    vbox=[x, y, w, h],
                    hbox=[x, y, w // 2, h // 2],
                    head_attr={},
                    extra=dict(box_id=j, occ=0),
                )
                for j, (_, x, y, w, h) in enumerate(boxes)
            ]
            people.append(
                dict(
                    tag='mask',
                    fbox=[2, 2, 9, 9],
                    vbox=[2, 2, 9, 9],
                    hbox=[2, 2, 5, 5],
                    head_attr={},
                    extra=dict(ignore=1),
                )
            )
            lines.append(json.dumps(dict(ID=name, gtboxes=people)))
        (root / f'annotation_{split}.odgt').write_text('\n'.join(lines) + '\n')
    return root
