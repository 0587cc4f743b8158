_base_ = ['./crowdhuman_d3pm_quality.py', '../_base_/parts/amp_ema.py']
optim_wrapper = {{_base_.amp}}
custom_hooks = [{{_base_.ema}}]
