# Geometry of pairs of boxes in the attention logits: mlp
_base_ = ['../demo/demo.py', '../_base_/parts/geo_bias_mlp.py']
model = {{_base_.part}}
