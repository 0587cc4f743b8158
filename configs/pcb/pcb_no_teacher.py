# The control of distillation: the same training without the teacher
_base_ = './pcb_20to1.py'
custom_hooks = []
