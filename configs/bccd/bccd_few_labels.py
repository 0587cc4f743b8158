# A tenth of the labels; the images without them are left out
_base_ = './bccd.py'
train_dataloader = dict(dataset=dict(labelled=0.1, unlabelled='drop'))
