"""Convert a data set in VOC layout to COCO format.

    python tools/dataset_converters/voc_to_coco.py ROOT SPLIT OUT.json
        [--classes WBC RBC Platelets]

ROOT holds Annotations, ImageSets/Main and JPEGImages; SPLIT names a list in
ImageSets/Main. Without --classes, those of the files, sorted. Boxes without
area are left out with a warning. file_name is relative to ROOT.
"""

import json
from pathlib import Path
from typing import List

from mmdiffdet.command import make_parser, run_command
from mmdiffdet.utils import atomic_path


def to_coco(root: Path, split: str, classes: List[str]) -> dict:
    """COCO annotations of a split; image ids count from 1."""
    from mmdiffdet.datasets import VOCDataset

    dataset = VOCDataset(
        data_root=str(root),
        ann_file=f'ImageSets/Main/{split}.txt',
        data_prefix=dict(sub_data_root=''),
        metainfo=dict(classes=tuple(classes)),
        test_mode=True,
    )
    categories = [dict(id=i + 1, name=name) for i, name in enumerate(classes)]
    images, annotations = [], []
    for image_id, info in enumerate(dataset, start=1):
        name = str(Path(info['img_path']).relative_to(root))
        size = dict(width=info['width'], height=info['height'])
        images.append(dict(id=image_id, file_name=name, **size))
        for instance in info['instances']:
            x1, y1, x2, y2 = instance['bbox']
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image_id,
                    category_id=instance['bbox_label'] + 1,
                    bbox=[x1, y1, x2 - x1, y2 - y1],
                    area=(x2 - x1) * (y2 - y1),
                    iscrowd=instance['ignore_flag'],
                )
            )
    return dict(images=images, annotations=annotations, categories=categories)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument('root', type=Path)
    parser.add_argument('split')
    parser.add_argument('out', type=Path)
    parser.add_argument('--classes', nargs='+')
    args = parser.parse_args()
    from mmdiffdet.datasets.from_file import voc_classes

    classes = args.classes or voc_classes(
        str(args.root / 'ImageSets/Main' / f'{args.split}.txt'), str(args.root / 'Annotations')
    )
    coco = to_coco(args.root, args.split, classes)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(args.out) as path:
        path.write_text(json.dumps(coco))
    print(
        f'wrote {len(coco["images"])} images and '
        f'{len(coco["annotations"])} objects of {classes} to {args.out}'
    )


if __name__ == '__main__':
    run_command(main)
