_base_ = './warmstart.py'
randomness = dict(seed=0)
load_from = 'work_dirs/repro10k_seed0/iter_10000.pth'
