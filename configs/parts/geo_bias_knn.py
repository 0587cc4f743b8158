# Sparse attention: each proposal and its 50 nearest, with no other bias
_base_ = ['../demo/demo.py', '../_base_/parts/geo_bias_knn.py']
model = {{_base_.part}}
