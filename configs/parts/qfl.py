# Quality focal loss: the target of a matched class is the IoU
_base_ = [
    '../demo/diffusiondet_mbv2_fpn_100-proposals.py',
    '../_base_/parts/qfl.py'
]
model = {{_base_.part}}
