# 450k iterations of 16 images, the schedule of DiffusionDet on COCO
train_cfg = dict(type='IterBasedTrainLoop', max_iters=450000, val_interval=75000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='MultiSeedTestLoop')

param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=1000),
    dict(
        type='MultiStepLR',
        by_epoch=False,
        begin=0,
        end=450000,
        milestones=[350000, 420000],
        gamma=0.1,
    ),
]
optim_wrapper = dict(
    type='PartOptimWrapper',
    constructor='PartOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=2.5e-5, weight_decay=1e-4),
    clip_grad=dict(max_norm=1.0, norm_type=2),
)
auto_scale_lr = dict(enable=False, base_batch_size=16)
