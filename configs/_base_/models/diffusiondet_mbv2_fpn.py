# A small model for CPUs: MobileNetV2, 100 proposals, 4 stages
_base_ = './diffusiondet_r50_fpn.py'
num_proposals = 100
model = dict(
    backbone=dict(
        _delete_=True,
        type='MobileNetV2',
        out_indices=(1, 2, 4, 7),
        frozen_stages=2,  # a third of an iteration's time
        # statistics of the batch: on small images far better than ImageNet's
        norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=False,
        # written by tools/fetch_mobilenet_v2.py
        init_cfg=dict(
            type='Pretrained', checkpoint='work_dirs/pretrained/mobilenet_v2_imagenet.safetensors'
        ),
    ),
    neck=dict(in_channels=[24, 32, 96, 1280], out_channels=128),
    bbox_head=dict(
        feat_channels=128,
        num_stages=4,
        stage=dict(feedforward_channels=512, dynamic_dim=32),
        roi_extractor=dict(out_channels=128),
    ),
    train_cfg=dict(num_proposals=num_proposals),
    test_cfg=dict(num_proposals=num_proposals),
)
