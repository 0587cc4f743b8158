# Predicted IoU of each box, which also weighs the class scores
part = dict(
    model=dict(
        bbox_head=dict(stage=dict(output_parts=[dict(type='QualityHead')])),
        criterion=dict(loss_quality=dict(type='QualityLoss')),
        test_cfg=dict(quality_power=1.0),
    )
)
