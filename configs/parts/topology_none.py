# Ablation: proposals do not see each other
_base_ = [
    '../demo/diffusiondet_mbv2_fpn_100-proposals.py',
    '../_base_/parts/topology_none.py'
]
model = {{_base_.part}}
