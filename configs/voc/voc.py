# VOC 2007 + 2012
_base_ = [
    '../_base_/models/diffusiondet_r50_fpn.py',
    '../_base_/datasets/voc0712.py',
    '../_base_/schedules/schedule_450k.py',
    '../_base_/default_runtime.py',
]
model = dict(bbox_head=dict(num_classes=20))
# a tenth of COCO's images
train_cfg = dict(max_iters=45000, val_interval=15000)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=1000),
    dict(
        type='MultiStepLR', by_epoch=False, begin=0, end=45000, milestones=[35000, 42000], gamma=0.1
    ),
]
