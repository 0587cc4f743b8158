"""Test-time augmentation of a config that was written for plain tests."""

import copy
from typing import List

from mmengine.config import Config, ConfigDict

from ..utils import leaf_datasets

SCALES = (1.0, 0.8, 1.25)
"""Of the images, relative to the plain test; each is flipped too."""

_FLIP_KEYS = ('flip', 'flip_direction')


def use_tta(cfg: Config) -> None:
    """Test several views of each image and merge their detections.

    Args:
        cfg (Config): Changed in place. Its ``tta_pipeline`` takes the place of
            the test pipeline, if there is one, else views of several scales
            and their mirror images are made; its ``tta_model`` merges them,
            by default ``DiffusionDetTTA`` with NMS at IoU 0.5 to 100 boxes.

    Raises:
        ValueError: If there is no ``tta_pipeline`` and the test pipeline has
            no ``Resize`` with a ``scale``.
    """
    cfg.test_cfg.tta = copy.deepcopy(cfg.get('tta_model')) or ConfigDict(
        type='DiffusionDetTTA',
        tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100),
    )
    for dataset in leaf_datasets(cfg.test_dataloader.dataset):
        if not any(t['type'] == 'TestTimeAug' for t in dataset.pipeline):
            dataset.pipeline = copy.deepcopy(cfg.get('tta_pipeline')) or _views(dataset.pipeline)


def _views(pipeline: List[dict]) -> List[dict]:
    """The pipeline with views; the plain one comes first."""
    plain = copy.deepcopy(pipeline)
    place = next((i for i, t in enumerate(plain) if t['type'] == 'Resize' and 'scale' in t), None)
    if place is None or plain[-1]['type'] != 'PackDetInputs':
        raise ValueError(
            '--tta: the test pipeline '
            f'{[t["type"] for t in plain]} has no Resize with a scale, or '
            'does not end in PackDetInputs; write tta_pipeline in the config'
        )
    resize, *rest = plain[place:]
    keys = rest[-1].setdefault(
        'meta_keys', ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
    )
    rest[-1]['meta_keys'] = (*keys, *(k for k in _FLIP_KEYS if k not in keys))
    sizes = [dict(resize, scale=tuple(round(side * s) for side in resize['scale'])) for s in SCALES]
    flips = [dict(type='RandomFlip', prob=p) for p in (0.0, 1.0)]
    return plain[:place] + [
        dict(type='TestTimeAug', transforms=[sizes, flips, *([t] for t in rest)])
    ]
