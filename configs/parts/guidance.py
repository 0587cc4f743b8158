# The last step's boxes move up the gradient of the predicted quality
_base_ = ['../demo/demo.py', '../_base_/parts/guidance.py']
model = {{_base_.part}}
