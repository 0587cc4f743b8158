# LVIS v1 on COCO's images; needs pip install lvis
_base_ = './coco_detection.py'
data_root = '{{$LVIS_ROOT:data/lvis}}/'
data = dict(type='LVISV1Dataset', data_root=data_root, data_prefix=dict(img=''))
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ClassBalancedDataset',
        oversample_thr=1e-3,
        dataset=dict(
            data,
            ann_file='annotations/lvis_v1_train.json',
            filter_cfg=dict(filter_empty_gt=False, min_size=1),
            pipeline={{_base_.train_pipeline}},
        ),
    )
)
val_dataloader = dict(dataset=dict(data, ann_file='annotations/lvis_v1_val.json'))
test_dataloader = val_dataloader
val_evaluator = dict(
    _delete_=True,
    type='LVISMetric',
    ann_file=data_root + 'annotations/lvis_v1_val.json',
    metric='bbox',
)
test_evaluator = val_evaluator
