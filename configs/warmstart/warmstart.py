# D3PM and quality head from a trained baseline; the backbone stays as it is
_base_ = '../repro10k/d3pm_quality_10k.py'
train_cfg = dict(max_iters=2500, val_interval=2500)
param_scheduler = [dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50)]
optim_wrapper = dict(optimizer=dict(lr=2.5e-6), paramwise_cfg=dict(backbone_lr_mult=0))
default_hooks = dict(checkpoint=dict(interval=500))
