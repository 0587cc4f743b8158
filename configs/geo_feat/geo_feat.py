# Geometry features on top of a one-step student, 1000 iterations
_base_ = '../warmstart/warmstart.py'
model = dict(
    bbox_head=dict(
        stage=dict(position_parts=[dict(type='GeometryFeature', schedule=dict(type='constant'))])
    )
)
train_cfg = dict(max_iters=1000, val_interval=1000)
load_from = 'work_dirs/20to1_seed{{$TRAIN_SEED:0}}/iter_2500.pth'
# the multiplier that the reference's notes recommend for this seed
optim_wrapper = dict(
    paramwise_cfg=dict(geometry_lr_mult={'0': 25, '3': 25}.get('{{$TRAIN_SEED:0}}', 150))
)
