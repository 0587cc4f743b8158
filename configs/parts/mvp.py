# All at once: D3PM and quality, mixed losses, learned graph, noise by side
_base_ = ['../demo/demo.py', '../_base_/parts/mvp.py']
model = {{_base_.part}}
