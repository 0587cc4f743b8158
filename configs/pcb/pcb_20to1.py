# The warm-started model's one step learns from its twenty, and is trained where
# it is used: at the timestep of pure noise
_base_ = './pcb_warmstart.py'
load_from = 'work_dirs/pcb_warmstart_seed{{$TRAIN_SEED:0}}/iter_100.pth'
model = dict(train_cfg=dict(timesteps='sampling'))
max_iters = 200
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=10),
    dict(type='MultiStepLR', by_epoch=False, milestones=[150], gamma=0.1),
]
default_hooks = dict(checkpoint=dict(interval=50))
custom_hooks = [
    dict(
        type='SamplerDistillHook', teacher=dict(checkpoint=load_from), topk=20
    )  # of 100 proposals: the share of the reference's 100 of 500
]
