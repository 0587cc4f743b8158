# D3PM and quality head from a trained baseline; the backbone stays as it is
_base_ = ['./bccd.py', '../_base_/parts/d3pm_quality.py']
model = {{_base_.part.model}}
load_from = 'work_dirs/bccd_seed{{$TRAIN_SEED:0}}/iter_1400.pth'
max_iters = 100
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=10)]
optim_wrapper = dict(optimizer=dict(lr=2.5e-5), paramwise_cfg=dict(backbone_lr_mult=0))
default_hooks = dict(checkpoint=dict(interval=25))
