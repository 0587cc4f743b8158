_base_ = ['./lvis.py', '../_base_/parts/d3pm_quality.py']
model = {{_base_.part}}
