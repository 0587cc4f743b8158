_base_ = ['./objects365v1.py', '../_base_/parts/d3pm_quality.py']
model = {{_base_.part}}
