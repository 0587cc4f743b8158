# Data of your own in COCO format: below OWN_ROOT (data/own) train.json, val.json
# and images/, or what OWN_TRAIN, OWN_VAL and OWN_IMAGES name. OWN_TRAIN and
# OWN_VAL may be names of EXTRA_COCO_DATASETS="name,json,images;..." as well.
_base_ = './coco_detection.py'
data_root = '{{$OWN_ROOT:data/own}}/'
metainfo = dict(classes='from_file')  # of training; the model has as many
data = dict(data_root=data_root, data_prefix=dict(img='{{$OWN_IMAGES:images}}/'), metainfo=metainfo)
train_dataloader = dict(dataset=dict(data, ann_file='{{$OWN_TRAIN:train.json}}'))
val_dataloader = dict(dataset=dict(data, ann_file='{{$OWN_VAL:val.json}}'))
test_dataloader = val_dataloader
val_file = '{{$OWN_VAL:val.json}}'
val_evaluator = dict(ann_file=val_file if val_file.startswith('/') else data_root + val_file)
test_evaluator = val_evaluator
