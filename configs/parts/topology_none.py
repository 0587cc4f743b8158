# Ablation: proposals do not see each other
_base_ = ['../demo/demo.py', '../_base_/parts/topology_none.py']
model = {{_base_.part}}
