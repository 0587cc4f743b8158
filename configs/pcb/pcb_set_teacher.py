# The student finds what the teacher's twenty steps, merged, have found
_base_ = './pcb_20to1.py'
custom_hooks = [
    dict(type='SetDistillHook', teacher=dict(checkpoint={{_base_.load_from}}), score_thr=0.3)
]
