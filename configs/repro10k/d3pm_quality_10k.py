# D3PM and quality head from scratch
_base_ = ['./diffusiondet_r50_fpn_500-proposals_10k.py', '../_base_/parts/d3pm_quality.py']
model = {{_base_.part}}
