# Data of your own in YOLO's layout: below OWN_ROOT (data/own) images/train,
# images/val, labels/train, labels/val and data.yaml or classes.txt. OWN_TRAIN and
# OWN_VAL name other folders of images, or lists of images, instead.
_base_ = './coco_detection.py'
data_root = '{{$OWN_ROOT:data/own}}/'
metainfo = dict(classes='from_file')  # of data.yaml; the model has as many
data = dict(_delete_=True, type='YOLODataset', data_root=data_root, metainfo=metainfo)
train_dataloader = dict(
    dataset=dict(data, ann_file='{{$OWN_TRAIN:images/train}}', pipeline={{_base_.train_pipeline}})
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
    dataset=dict(data, ann_file='{{$OWN_VAL:images/val}}', test_mode=True, pipeline=test_pipeline)
)
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='CocoMetric', metric='bbox')  # from the data set
test_evaluator = val_evaluator
