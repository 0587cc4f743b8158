# D3PM and quality head from a trained baseline; the backbone stays as it is
_base_ = ['../baseline/repro10k.py', '../_base_/parts/d3pm_quality.py']
model = {{_base_.part.model}}
train_cfg = dict(max_iters=2500, val_interval=2500)
param_scheduler = [dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50)]
optim_wrapper = dict(optimizer=dict(lr=2.5e-6), paramwise_cfg=dict(backbone_lr_mult=0))
default_hooks = dict(checkpoint=dict(interval=500))
load_from = 'work_dirs/repro10k_seed{{$TRAIN_SEED:0}}/iter_10000.pth'
