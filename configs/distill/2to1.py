# Progressive distillation, last of three: two steps into one
_base_ = './20to1.py'
load_from = 'work_dirs/4to2/iter_2500.pth'
custom_hooks = [
    dict(type='SamplerDistillHook', teacher=dict(checkpoint=load_from), teacher_steps=2)
]
