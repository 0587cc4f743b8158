_base_ = './diffusiondet_r50_fpn_500-proposals_1-step_crop-ms-480-800-450k_coco.py'
model = dict(
    backbone=dict(
        depth=101,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://download.pytorch.org/models/resnet101-63fe2227.pth',
        ),
    )
)
