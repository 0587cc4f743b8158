# LVIS v1: federated loss with the class frequencies of the training file
_base_ = [
    '../_base_/models/diffusiondet_r50_fpn.py',
    '../_base_/datasets/lvis_v1.py',
    '../_base_/schedules/schedule_450k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    bbox_head=dict(num_classes=1203),
    criterion=dict(federated=dict(type='FederatedClasses')),
    test_cfg=dict(max_per_img=300),
)
default_hooks = dict(federated=dict(type='FederatedFrequencyHook'))
