_base_ = [
    '../_base_/models/diffusiondet_r50_fpn.py',
    '../_base_/datasets/own_yolo.py',
    '../_base_/schedules/schedule_10k.py',
    '../_base_/default_runtime.py',
]
