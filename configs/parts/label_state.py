# Label state: ids that are masked in the forward process
_base_ = ['../demo/demo.py', '../_base_/parts/label_state.py']
model = {{_base_.part}}
