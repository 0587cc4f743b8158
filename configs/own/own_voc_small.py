# For CPUs: the small model, images of 640x480, 1400 iterations of 8
_base_ = [
    '../_base_/models/diffusiondet_mbv2_fpn.py',
    '../_base_/datasets/own_voc.py',
    '../_base_/datasets/small_images.py',
    '../_base_/schedules/schedule_1400.py',
    '../_base_/default_runtime.py',
]
train_dataloader = dict(batch_size=8, dataset=dict(pipeline={{_base_.small_train_pipeline}}))
val_dataloader = dict(dataset=dict(pipeline={{_base_.small_test_pipeline}}))
test_dataloader = val_dataloader
default_hooks = dict(logger=dict(interval=10))
