_base_ = '../repro10k/diffusiondet_r50_fpn_500-proposals_10k.py'
randomness = dict(seed=0)
