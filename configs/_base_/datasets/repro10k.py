# Repro-10k: COCO format, 3 classes; the validation part may lack persons
_base_ = './coco_detection.py'
data_root = '{{$REPRO10K_ROOT:data/repro_10k}}/'
metainfo = dict(classes=('car', 'motorbike', 'person'))
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        data_root=data_root,
        ann_file='annotations/train.json',
        data_prefix=dict(img='train/'),
        metainfo=metainfo,
    ),
)
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file='annotations/val.json',
        data_prefix=dict(img='val/'),
        metainfo=metainfo,
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/val.json')
test_evaluator = val_evaluator
