"""Small data sets in COCO, LVIS, VOC, CrowdHuman's and YOLO's formats, with a config."""

import copy
import json
from pathlib import Path
from typing import Callable, Dict, List, Tuple

import cv2
import numpy as np
import yaml
from mmengine.config import Config

CLASSES = ('red', 'green', 'blue')


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
