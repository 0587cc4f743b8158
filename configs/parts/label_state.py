# Label state: ids that are masked in the forward process
_base_ = [
    '../demo/diffusiondet_mbv2_fpn_100-proposals.py',
    '../_base_/parts/label_state.py'
]
model = {{_base_.part}}
