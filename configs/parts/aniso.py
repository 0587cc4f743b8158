# More noise in the sides of boxes than in their centres
_base_ = [
    '../demo/diffusiondet_mbv2_fpn_100-proposals.py',
    '../_base_/parts/aniso.py'
]
model = {{_base_.part}}
