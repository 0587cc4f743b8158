# Data of your own in VOC layout: below OWN_ROOT (data/own) JPEGImages,
# Annotations and the lists ImageSets/Main/train.txt and val.txt, or what
# OWN_TRAIN and OWN_VAL name instead of train and val
_base_ = './coco_detection.py'
data_root = '{{$OWN_ROOT:data/own}}/'
metainfo = dict(classes='from_file')  # of training; the model has as many
data = dict(
    _delete_=True,
    type='VOCDataset',
    data_root=data_root,
    data_prefix=dict(sub_data_root=''),
    metainfo=metainfo,
)
train_dataloader = dict(
    dataset=dict(
        data,
        ann_file='ImageSets/Main/{{$OWN_TRAIN:train}}.txt',
        filter_cfg=dict(filter_empty_gt=True),
        pipeline={{_base_.train_pipeline}},
    )
)
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(1333, 800), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'instances'),
    ),
]
val_dataloader = dict(
    dataset=dict(
        data, ann_file='ImageSets/Main/{{$OWN_VAL:val}}.txt', test_mode=True, pipeline=test_pipeline
    )
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(type='CocoMetric', metric='bbox'),  # from the data set itself
    dict(type='VOCMetric', metric='mAP', eval_mode='area'),
]
test_evaluator = val_evaluator
