# Box geometry in queries and keys, weighed by (1 - t / (T - 1)) ** 2
_base_ = [
    '../demo/diffusiondet_mbv2_fpn_100-proposals.py',
    '../_base_/parts/geo_feat.py'
]
model = {{_base_.part}}
