# More noise in the sides of boxes than in their centres
_base_ = ['../demo/demo.py', '../_base_/parts/aniso.py']
model = {{_base_.part}}
