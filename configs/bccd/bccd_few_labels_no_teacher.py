# The control: trained on with the same tenth of the labels, without a teacher
_base_ = './bccd_few_labels.py'
load_from = 'work_dirs/bccd_few_labels_seed{{$TRAIN_SEED:0}}/iter_1400.pth'
model = dict(train_cfg=dict(timesteps='sampling'))
max_iters = 200
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=10),
    dict(type='MultiStepLR', by_epoch=False, milestones=[150], gamma=0.1),
]
default_hooks = dict(checkpoint=dict(interval=50))
