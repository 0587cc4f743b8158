# make demo: a few minutes of training on two CPU cores
_base_ = [
    '../_base_/models/diffusiondet_mbv2_fpn.py',
    '../_base_/datasets/demo.py',
    '../_base_/schedules/schedule_1400.py',
    '../_base_/default_runtime.py',
]
model = dict(bbox_head=dict(num_classes=3))
max_iters = 300
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=30, end=max_iters, eta_min=0),
]
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=100))
