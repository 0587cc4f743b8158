# DETR with a small backbone on the demo data
_base_ = [
    '../_base_/models/detr_r50.py',
    '../_base_/datasets/demo.py',
    '../_base_/schedules/schedule_1400.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        _delete_=True,
        type='MobileNetV2',
        out_indices=(7,),
        norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=False,
        init_cfg=dict(
            type='Pretrained', checkpoint='work_dirs/pretrained/mobilenet_v2_imagenet.safetensors'
        ),
    ),
    neck=dict(in_channels=[1280]),
    encoder=dict(num_layers=3),
    decoder=dict(num_layers=3),
    bbox_head=dict(num_classes=3),
)
max_iters = 300
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30)]
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=1e-4),
    clip_grad=dict(max_norm=0.1, norm_type=2),
)
