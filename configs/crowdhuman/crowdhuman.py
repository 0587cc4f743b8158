# CrowdHuman, full bodies
_base_ = [
    '../_base_/models/diffusiondet_r50_fpn.py',
    '../_base_/datasets/crowdhuman.py',
    '../_base_/schedules/schedule_450k.py',
    '../_base_/default_runtime.py',
]
model = dict(bbox_head=dict(num_classes=1))
