# Progressive distillation, first of three: twenty steps into four
_base_ = './20to1.py'
load_from = 'work_dirs/warmstart_seed0/iter_2500.pth'
model = dict(sampler=dict(sampling_timesteps=4))
custom_hooks = [
    dict(
        type='SamplerDistillHook',
        teacher=dict(checkpoint=load_from),
        teacher_steps=20,
        student_steps=4,
    )
]
