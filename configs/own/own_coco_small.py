# For CPUs: the small model, 800 iterations
_base_ = [
    '../_base_/models/diffusiondet_mbv2_fpn.py',
    '../_base_/datasets/own_coco.py', '../_base_/schedules/schedule_800.py',
    '../_base_/default_runtime.py'
]
