# Geometry of pairs of boxes in the attention logits: distance
_base_ = [
    '../demo/diffusiondet_mbv2_fpn_100-proposals.py',
    '../_base_/parts/geo_bias_distance.py'
]
model = {{_base_.part}}
