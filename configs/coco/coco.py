# DiffusionDet with R50 on COCO, as published (arXiv 2211.09788)
_base_ = [
    '../_base_/models/diffusiondet_r50_fpn.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/schedule_450k.py',
    '../_base_/default_runtime.py',
]
