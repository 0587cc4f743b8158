# MMDetection's DETR on the data and protocol of the baseline in the reference's notes
_base_ = [
    '../_base_/models/detr_r50.py',
    '../_base_/datasets/repro10k.py',
    '../_base_/schedules/schedule_10k.py',
    '../_base_/default_runtime.py',
]
model = dict(bbox_head=dict(num_classes=3))
# DETR's own: a tenth of the rate for the backbone, gradients below 0.1
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=1e-4),
    clip_grad=dict(max_norm=0.1, norm_type=2),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.1, decay_mult=1.0))),
)
