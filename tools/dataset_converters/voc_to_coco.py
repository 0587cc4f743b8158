"""Convert a data set in VOC layout to COCO format.

    python tools/dataset_converters/voc_to_coco.py ROOT SPLIT OUT.json
        [--classes WBC RBC Platelets]

ROOT holds Annotations, ImageSets/Main and JPEGImages; SPLIT names a list in
ImageSets/Main. Without --classes, those of the files, sorted. Boxes without
area are left out with a warning. file_name is relative to ROOT.
"""
import argparse
import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import List

from mmengine.fileio import list_from_file

from mmdiffdet.datasets import VOCDataset
from mmdiffdet.datasets.loading import require_file
from mmdiffdet.utils import atomic_path


def find_classes(root: Path, split: str) -> List[str]:
    """Names of all objects of a split, sorted."""
    images = root / 'ImageSets/Main' / f'{split}.txt'
    require_file(str(images), 'voc_to_coco')
    names = set()
    for image in list_from_file(str(images)):
        path = root / 'Annotations' / f'{image}.xml'
        require_file(str(path), 'voc_to_coco')
        try:
            names.update(o.findtext('name') for o in ET.parse(path).iter(
                'object'))
        except ET.ParseError as error:
            raise ValueError(
                f'{path}: not well-formed XML ({error})') from error
    return sorted(names)


def to_coco(root: Path, split: str, classes: List[str]) -> dict:
    """COCO annotations of a split; image ids count from 1."""
    dataset = VOCDataset(
        data_root=str(root),
        ann_file=f'ImageSets/Main/{split}.txt',
        data_prefix=dict(sub_data_root=''),
        metainfo=dict(classes=tuple(classes)),
        test_mode=True)
    coco = dict(
        images=[],
        annotations=[],
        categories=[
            dict(id=i + 1, name=name) for i, name in enumerate(classes)
        ])
    for image_id, info in enumerate(dataset, start=1):
        coco['images'].append(
            dict(
                id=image_id,
                file_name=str(Path(info['img_path']).relative_to(root)),
                width=info['width'],
                height=info['height']))
        for instance in info['instances']:
            x1, y1, x2, y2 = instance['bbox']
            coco['annotations'].append(
                dict(
                    id=len(coco['annotations']) + 1,
                    image_id=image_id,
                    category_id=instance['bbox_label'] + 1,
                    bbox=[x1, y1, x2 - x1, y2 - y1],
                    area=(x2 - x1) * (y2 - y1),
                    iscrowd=instance['ignore_flag']))
    return coco


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('root', type=Path)
    parser.add_argument('split')
    parser.add_argument('out', type=Path)
    parser.add_argument('--classes', nargs='+')
    args = parser.parse_args()
    try:
        classes = args.classes or find_classes(args.root, args.split)
        coco = to_coco(args.root, args.split, classes)
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(args.out) as path:
        path.write_text(json.dumps(coco))
    print(f'wrote {len(coco["images"])} images and '
          f'{len(coco["annotations"])} objects of {classes} to {args.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
