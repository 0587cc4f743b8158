# 1400 iterations of 8 images, for small data and CPUs; docs/train_seeds.md says why so
train_cfg = dict(type='IterBasedTrainLoop', max_iters=1400, val_interval=1400)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='MultiSeedTestLoop')

param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=50, end=1400, eta_min=0),
]
optim_wrapper = dict(
    type='PartOptimWrapper',
    constructor='PartOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=5e-4, weight_decay=1e-4),
    clip_grad=dict(max_norm=1.0, norm_type=2),
)
auto_scale_lr = dict(enable=False, base_batch_size=8)
