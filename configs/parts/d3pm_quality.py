# D3PM of labels and the quality head: what is warm-started and distilled
_base_ = ['../demo/demo.py', '../_base_/parts/d3pm_quality.py']
model = {{_base_.part}}
