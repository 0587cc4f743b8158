_base_ = './warmstart.py'
randomness = dict(seed=2)
load_from = 'work_dirs/repro10k_seed2/iter_10000.pth'
