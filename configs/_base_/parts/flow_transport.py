# Flow matching whose noise is paired with the boxes that it is nearest to
_base_ = './flow.py'
part = dict(model=dict(train_cfg=dict(noise_pairing='optimal_transport')))
