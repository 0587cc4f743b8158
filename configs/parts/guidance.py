# The last step's boxes move up the gradient of the predicted quality
_base_ = [
    '../demo/diffusiondet_mbv2_fpn_100-proposals.py',
    '../_base_/parts/guidance.py'
]
model = {{_base_.part}}
