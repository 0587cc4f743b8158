# The student finds what the teacher's twenty steps, merged, have found
_base_ = './no_teacher.py'
custom_hooks = [dict(type='SetDistillHook', teacher=dict(checkpoint={{_base_.load_from}}))]
