# Attention between objects' proposals follows the overlap of the objects
_base_ = [
    '../demo/diffusiondet_mbv2_fpn_100-proposals.py',
    '../_base_/parts/topo.py'
]
model = {{_base_.part}}
