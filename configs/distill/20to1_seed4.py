_base_ = './20to1.py'
randomness = dict(seed=4)
load_from = 'work_dirs/warmstart_seed4/iter_2500.pth'
custom_hooks = [dict(type='SamplerDistillHook', teacher=dict(checkpoint=load_from))]
