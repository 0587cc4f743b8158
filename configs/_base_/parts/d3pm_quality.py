# D3PM of labels and the quality head: what is warm-started and distilled
_base_ = './d3pm.py'
part = dict(
    model=dict(
        bbox_head=dict(stage=dict(output_parts=[dict(type='QualityHead')])),
        criterion=dict(loss_quality=dict(type='QualityLoss')),
        test_cfg=dict(quality_power=1.0),
    )
)
