_base_ = ['./voc.py', '../_base_/parts/d3pm_quality.py']
model = {{_base_.part}}
