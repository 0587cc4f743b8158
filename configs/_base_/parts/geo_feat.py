# Box geometry in queries and keys, weighed by (1 - t / (T - 1)) ** 2
part = dict(bbox_head=dict(stage=dict(position_parts=[dict(type='GeometryFeature')])))
