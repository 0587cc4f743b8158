# Predicted IoU of each box, which also weighs the class scores
_base_ = ['../demo/demo.py', '../_base_/parts/quality.py']
model = {{_base_.part}}
