# The teacher sees all images, half of a batch has labels too
_base_ = './bccd_few_labels_no_teacher.py'
train_dataloader = dict(dataset=dict(unlabelled='keep', labelled_repeats=9))
custom_hooks = [
    dict(type='SetDistillHook', teacher=dict(checkpoint={{_base_.load_from}}), score_thr=0.3)
]
