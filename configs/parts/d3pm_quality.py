# D3PM of labels and the quality head: what is warm-started and distilled
_base_ = [
    '../demo/diffusiondet_mbv2_fpn_100-proposals.py',
    '../_base_/parts/d3pm_quality.py'
]
model = {{_base_.part}}
