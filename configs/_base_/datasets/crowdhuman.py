# CrowdHuman, full bodies; annotations in its own format
_base_ = './coco_detection.py'
data_root = '{{$CROWDHUMAN_ROOT:data/CrowdHuman}}/'
data = dict(
    _delete_=True, type='CrowdHumanDataset', data_root=data_root, data_prefix=dict(img='Images/')
)
train_dataloader = dict(
    dataset=dict(
        data,
        ann_file='annotation_train.odgt',
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline={{_base_.train_pipeline}},
    )
)
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(1400, 800), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'instances'),
    ),
]
val_dataloader = dict(
    dataset=dict(data, ann_file='annotation_val.odgt', test_mode=True, pipeline=test_pipeline)
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(
        type='CrowdHumanMetric',
        ann_file=data_root + 'annotation_val.odgt',
        metric=['AP', 'MR', 'JI'],
        num_ji_process=2,
    ),
    dict(type='CocoMetric', metric='bbox'),  # from the data set itself
]
test_evaluator = val_evaluator
