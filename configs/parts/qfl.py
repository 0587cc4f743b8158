# Quality focal loss: the target of a matched class is the IoU
_base_ = ['../demo/demo.py', '../_base_/parts/qfl.py']
model = {{_base_.part}}
