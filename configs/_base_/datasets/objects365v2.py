# Objects365 v2
_base_ = './coco_detection.py'
data_root = '{{$OBJECTS365V2_ROOT:data/Objects365v2}}/'
data = dict(type='Objects365V2Dataset', data_root=data_root)
train_dataloader = dict(
    dataset=dict(
        data, ann_file='annotations/zhiyuan_objv2_train.json', data_prefix=dict(img='train/')
    )
)
val_dataloader = dict(
    dataset=dict(data, ann_file='annotations/zhiyuan_objv2_val.json', data_prefix=dict(img='val/'))
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/zhiyuan_objv2_val.json')
test_evaluator = val_evaluator
