# All at once: D3PM and quality, mixed losses, learned graph, noise by side
_base_ = [
    '../demo/diffusiondet_mbv2_fpn_100-proposals.py',
    '../_base_/parts/mvp.py'
]
model = {{_base_.part}}
