# Objects365 v1
_base_ = './coco_detection.py'
data_root = '{{$OBJECTS365_ROOT:data/Objects365}}/'
data = dict(type='Objects365V1Dataset', data_root=data_root)
train_dataloader = dict(
    dataset=dict(data, ann_file='annotations/objects365_train.json', data_prefix=dict(img='train/'))
)
val_dataloader = dict(
    dataset=dict(data, ann_file='annotations/objects365_val.json', data_prefix=dict(img='val/'))
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/objects365_val.json')
test_evaluator = val_evaluator
