# Flow matching from noise that is distributed as the training set's boxes are
_base_ = './flow.py'
part = dict(model=dict(box_codec=dict(noise_mean='from_file')))
