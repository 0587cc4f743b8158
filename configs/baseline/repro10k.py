# The baseline of the reference's notes
_base_ = [
    '../_base_/models/diffusiondet_r50_fpn.py',
    '../_base_/datasets/repro10k.py',
    '../_base_/schedules/schedule_10k.py',
    '../_base_/default_runtime.py',
]
model = dict(bbox_head=dict(num_classes=3))
