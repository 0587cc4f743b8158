_base_ = './20to1.py'
randomness = dict(seed=2)
load_from = 'work_dirs/warmstart_seed2/iter_2500.pth'
custom_hooks = [dict(type='SamplerDistillHook', teacher=dict(checkpoint=load_from))]
