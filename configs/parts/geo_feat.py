# Box geometry in queries and keys, weighed by (1 - t / (T - 1)) ** 2
_base_ = ['../demo/demo.py', '../_base_/parts/geo_feat.py']
model = {{_base_.part}}
