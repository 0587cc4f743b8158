_base_ = ['./coco.py', '../_base_/parts/fsdp.py']
