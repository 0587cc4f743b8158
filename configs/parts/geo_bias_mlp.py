# Geometry of pairs of boxes in the attention logits: mlp
_base_ = [
    '../demo/diffusiondet_mbv2_fpn_100-proposals.py',
    '../_base_/parts/geo_bias_mlp.py'
]
model = {{_base_.part}}
