# Box geometry in queries and keys at all timesteps, as for one-step students
part = dict(
    bbox_head=dict(
        stage=dict(position_parts=[dict(type='GeometryFeature', schedule=dict(type='constant'))])
    )
)
