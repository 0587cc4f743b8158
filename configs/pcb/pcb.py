_base_ = [
    '../_base_/models/diffusiondet_mbv2_fpn.py',
    '../_base_/datasets/pcb.py',
    '../_base_/schedules/schedule_1400.py',
    '../_base_/default_runtime.py',
]
model = dict(bbox_head=dict(num_classes=6))
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=200))
