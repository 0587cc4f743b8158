_base_ = './warmstart.py'
randomness = dict(seed=1)
load_from = 'work_dirs/repro10k_seed1/iter_10000.pth'
