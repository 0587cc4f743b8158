# D3PM of labels: the head sees the distribution, samples of it in training
_base_ = ['../demo/demo.py', '../_base_/parts/d3pm.py']
model = {{_base_.part}}
