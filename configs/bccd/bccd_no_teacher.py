# The control of distillation: the same training without the teacher
_base_ = './bccd_20to1.py'
custom_hooks = []
