# 800 iterations of 8 images, for small data and CPUs
train_cfg = dict(type='IterBasedTrainLoop', max_iters=800, val_interval=800)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='MultiSeedTestLoop')

param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=800, milestones=[600], gamma=0.1),
]
optim_wrapper = dict(
    type='PartOptimWrapper',
    constructor='PartOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=2.5e-4, weight_decay=1e-4),
    clip_grad=dict(max_norm=1.0, norm_type=2),
)
auto_scale_lr = dict(enable=False, base_batch_size=8)
