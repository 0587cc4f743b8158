# Geometry of pairs of boxes in the attention logits: distance
_base_ = ['../demo/demo.py', '../_base_/parts/geo_bias_distance.py']
model = {{_base_.part}}
