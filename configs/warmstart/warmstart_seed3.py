_base_ = './warmstart.py'
randomness = dict(seed=3)
load_from = 'work_dirs/repro10k_seed3/iter_10000.pth'
