# Geometry features on top of a one-step student, 1000 iterations
_base_ = '../warmstart/warmstart.py'
model = dict(
    bbox_head=dict(
        stage=dict(position_parts=[dict(type='GeometryFeature', schedule=dict(type='constant'))])
    )
)
train_cfg = dict(max_iters=1000, val_interval=1000)
