# The control of distillation: the same training without the teacher
_base_ = './demo_20to1.py'
custom_hooks = []
