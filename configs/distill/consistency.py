# The student repeats what the teacher says of the same noisy boxes; short
_base_ = '../warmstart/warmstart.py'
load_from = 'work_dirs/warmstart_seed0/iter_2500.pth'
train_cfg = dict(max_iters=50, val_interval=50)
custom_hooks = [dict(type='ConsistencyDistillHook', teacher=dict(checkpoint=load_from))]
