# Geometry of pairs of boxes in the attention logits: iou
part = dict(bbox_head=dict(stage=dict(attention_parts=[dict(type='GeometryBias', mode='iou')])))
