# Attention between objects' proposals follows the overlap of the objects
_base_ = ['../demo/demo.py', '../_base_/parts/topo.py']
model = {{_base_.part}}
