# 10k iterations of 4 images, the schedule of the reference's notes on Repro-10k
_base_ = './schedule_450k.py'
train_cfg = dict(max_iters=10000, val_interval=10000)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(
        type='MultiStepLR', by_epoch=False, begin=0, end=10000, milestones=[8000, 9500], gamma=0.1
    ),
]
auto_scale_lr = dict(base_batch_size=4)
