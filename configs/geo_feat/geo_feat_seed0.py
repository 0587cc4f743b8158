# the multiplier that the record recommends for this seed
_base_ = './geo_feat_lrmult25.py'
randomness = dict(seed=0)
load_from = 'work_dirs/20to1_seed0/iter_2500.pth'
