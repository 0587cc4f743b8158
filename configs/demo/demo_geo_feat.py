# Geometry features on top of the one-step student
_base_ = './demo_warmstart.py'
model = dict(
    bbox_head=dict(
        stage=dict(position_parts=[dict(type='GeometryFeature', schedule=dict(type='constant'))])
    ),
    train_cfg=dict(timesteps='sampling'),
)
load_from = 'work_dirs/demo_20to1_seed{{$TRAIN_SEED:0}}/iter_25.pth'
optim_wrapper = dict(paramwise_cfg=dict(geometry_lr_mult=25))
