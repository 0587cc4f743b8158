# DiffusionDet (arXiv 2211.09788) with ResNet-50 and 500 proposals
num_proposals = 500
model = dict(
    type='DiffusionDet',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    backbone=dict(
        type='ResNet',
        depth=50,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
        style='pytorch',
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://download.pytorch.org/models/resnet50-0676ba61.pth',
        ),
    ),
    neck=dict(type='FPN', in_channels=[256, 512, 1024, 2048], out_channels=256, num_outs=4),
    bbox_head=dict(
        type='DiffusionDetHead',
        num_classes=80,
        feat_channels=256,
        num_stages=6,
        stage=dict(
            type='DiffusionDetStage',
            feedforward_channels=2048,
            dynamic_dim=64,
            interaction=dict(type='SelfAttention', num_heads=8),
        ),
        roi_extractor=dict(
            type='GatherRoIExtractor', out_channels=256, featmap_strides=[4, 8, 16, 32]
        ),
    ),
    box_codec=dict(type='BoxCodec', scale=2.0),
    sampler=dict(
        type='DiffusionSampler',
        scheduler=dict(type='DDIMScheduler'),
        sampling_timesteps=1,
        eta=1.0,
        renewal=dict(type='BoxRenewal', score_thr=0.5),
        ensemble=dict(type='StepEnsemble'),
    ),
    criterion=dict(
        type='DiffusionDetCriterion',
        assigner=dict(type='DynamicKAssigner'),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, alpha=0.25, gamma=2.0, loss_weight=2.0),
        loss_bbox=dict(type='L1Loss', loss_weight=5.0),
        loss_iou=dict(type='GIoULoss', loss_weight=2.0),
    ),
    train_cfg=dict(num_proposals=num_proposals),
    test_cfg=dict(num_proposals=num_proposals),
)
