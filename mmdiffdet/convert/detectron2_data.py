"""Detectron2's options of data as data loaders of ours."""

from typing import Any, Dict, List

from mmengine.config import Config

from ..paths import CONFIGS


def data_config(data: Dict[str, Any], dataset: str) -> Dict[str, Any]:
    """Data loaders and evaluators of the options' section ``data``.

    ``dataset`` names a file of ``configs/_base_/datasets``; without one ('') there is
    nothing to configure.
    """
    if not dataset:
        return {}
    count = data['DATALOADER.NUM_WORKERS']
    workers = dict(num_workers=count, persistent_workers=count > 0)
    test_scale = (data['INPUT.MAX_SIZE_TEST'], data['INPUT.MIN_SIZE_TEST'])
    test = Config.fromfile(CONFIGS / f'_base_/datasets/{dataset}.py').test_pipeline
    for transform in test:
        if transform['type'] == 'Resize':
            transform['scale'] = (max(test_scale), min(test_scale))
    loader = dict(**workers, dataset=dict(pipeline=[dict(t) for t in test]))
    keep = dict(filter_empty_gt=data['DATALOADER.FILTER_EMPTY_ANNOTATIONS'], min_size=1)
    config = dict(
        train_dataloader=dict(
            batch_size=data['SOLVER.IMS_PER_BATCH'],
            **workers,
            dataset=dict(filter_cfg=keep, pipeline=_train_pipeline(data)),
        ),
        val_dataloader=loader,
        test_dataloader=loader,
    )
    if dataset == 'own_coco':
        train_name, test_name = (data[f'DATASETS.{split}'][0] for split in ('TRAIN', 'TEST'))
        config['train_dataloader']['dataset']['ann_file'] = train_name
        loader['dataset']['ann_file'] = test_name
        config['val_evaluator'] = config['test_evaluator'] = dict(ann_file=test_name)
    return config


def _train_pipeline(data: Dict[str, Any]) -> List[Dict[str, Any]]:
    """Flip and resize; with cropping, half of the images are cropped."""
    longest = data['INPUT.MAX_SIZE_TRAIN']

    def resize(*sides: int) -> Dict[str, Any]:
        scales = [(max(longest, side), min(longest, side)) for side in sides]
        return dict(type='RandomChoiceResize', scales=scales, keep_ratio=True)

    sides = data['INPUT.MIN_SIZE_TRAIN']
    scaling = final = resize(*([sides] if isinstance(sides, int) else sides))
    if data['INPUT.CROP.ENABLED']:
        crop = dict(
            type='RandomCrop',
            crop_type=data['INPUT.CROP.TYPE'],
            crop_size=tuple(data['INPUT.CROP.SIZE']),
            allow_negative_crop=True,
        )
        cropped = [resize(400, 500, 600), crop, final]
        scaling = dict(type='RandomChoice', transforms=[[final], cropped])
    return [
        dict(type='SeedAugmentation'),
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='RandomFlip', prob=0.5),
        scaling,
        dict(type='PackDetInputs'),
    ]
