_base_ = './warmstart.py'
randomness = dict(seed=4)
load_from = 'work_dirs/repro10k_seed4/iter_10000.pth'
