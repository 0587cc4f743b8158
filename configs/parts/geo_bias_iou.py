# Geometry of pairs of boxes in the attention logits: iou
_base_ = ['../demo/demo.py', '../_base_/parts/geo_bias_iou.py']
model = {{_base_.part}}
