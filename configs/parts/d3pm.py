# D3PM of labels: the head sees the distribution, samples of it in training
_base_ = [
    '../demo/diffusiondet_mbv2_fpn_100-proposals.py',
    '../_base_/parts/d3pm.py'
]
model = {{_base_.part}}
