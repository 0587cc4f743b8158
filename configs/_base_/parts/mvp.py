# All at once: D3PM and quality, mixed losses, learned graph, noise by side
_base_ = ['./d3pm_quality.py']
part = dict(
    box_codec=dict(noise_sigma=(1.0, 1.0, 1.5, 1.5)),
    bbox_head=dict(
        stage=dict(attention_parts=[dict(type='GeometryBias', mode='mlp', include_iou=True)])
    ),
    criterion=dict(
        iou_weight_power=1.0,
        loss_cls=dict(
            _delete_=True, type='QualityFocalLoss', use_sigmoid=True, beta=2.0, loss_weight=2.0
        ),
    ),
)
