# Geometry of pairs of boxes in the attention logits: distance
part = dict(
    bbox_head=dict(stage=dict(attention_parts=[dict(type='GeometryBias', mode='distance')]))
)
