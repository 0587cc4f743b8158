# The warm-started model's one step learns from its twenty, and is trained where
# it is used: at the timestep of pure noise
_base_ = './demo_warmstart.py'
load_from = 'work_dirs/demo_warmstart_seed{{$TRAIN_SEED:0}}/iter_100.pth'
model = dict(train_cfg=dict(timesteps='sampling'))
max_iters = 25
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
custom_hooks = [
    dict(
        type='SamplerDistillHook', teacher=dict(checkpoint=load_from), topk=20
    )  # of 100 proposals: the share of the reference's 100 of 500
]
