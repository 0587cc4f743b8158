# DeepPCB in COCO format: six kinds of small faults on photographed boards, 640x640,
# halved here. Below PCB_ROOT (data/pcb) are train.json, val.json and images/
_base_ = './demo.py'
data_root = '{{$PCB_ROOT:data/pcb}}/'
metainfo = dict(
    classes=('open', 'short', 'mousebite', 'spur', 'copper', 'pin-hole'),
    palette=[
        (255, 200, 40),
        (230, 60, 50),
        (60, 170, 255),
        (80, 200, 120),
        (180, 90, 220),
        (150, 150, 150),
    ],
)
scale = (320, 320)
train_pipeline = [
    dict(type='SeedAugmentation'),
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
data = dict(data_root=data_root, data_prefix=dict(img='images/'), metainfo=metainfo)
train_dataloader = dict(dataset=dict(data, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(data, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'val.json')
test_evaluator = val_evaluator
