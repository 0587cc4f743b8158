_base_ = ['./objects365v2.py', '../_base_/parts/d3pm_quality.py']
model = {{_base_.part}}
