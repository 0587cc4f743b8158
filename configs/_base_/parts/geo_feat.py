# Box geometry in queries and keys, weighed by (1 - t / (T - 1)) ** 2; at all
# timesteps, as for one-step students, with
# --cfg-options model.bbox_head.stage.position_parts.0.schedule.type=constant
part = dict(model=dict(bbox_head=dict(stage=dict(position_parts=[dict(type='GeometryFeature')]))))
