# the multiplier that the record recommends for this seed
_base_ = './geo_feat_lrmult150.py'
randomness = dict(seed=1)
load_from = 'work_dirs/20to1_seed1/iter_2500.pth'
