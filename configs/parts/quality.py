# Predicted IoU of each box, which also weighs the class scores
_base_ = [
    '../demo/diffusiondet_mbv2_fpn_100-proposals.py',
    '../_base_/parts/quality.py'
]
model = {{_base_.part}}
