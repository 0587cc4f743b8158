_base_ = ['./objects365v2.py', '../_base_/parts/amp_ema.py']
optim_wrapper = {{_base_.amp}}
custom_hooks = [{{_base_.ema}}]
