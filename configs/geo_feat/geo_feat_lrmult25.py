_base_ = './geo_feat.py'
optim_wrapper = dict(paramwise_cfg=dict(geometry_lr_mult=25))
