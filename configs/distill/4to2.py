# Progressive distillation, second of three: four steps into two
_base_ = './20to1.py'
load_from = 'work_dirs/20to4/iter_2500.pth'
model = dict(sampler=dict(sampling_timesteps=2))
custom_hooks = [
    dict(
        type='SamplerDistillHook',
        teacher=dict(checkpoint=load_from),
        teacher_steps=4,
        student_steps=2,
    )
]
