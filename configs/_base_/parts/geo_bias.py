# Geometry of pairs of boxes in the attention logits: distance, or
# --cfg-options model.bbox_head.stage.attention_parts.0.mode=iou (mlp)
part = dict(
    model=dict(
        bbox_head=dict(stage=dict(attention_parts=[dict(type='GeometryBias', mode='distance')]))
    )
)
