# The last step's boxes move up the gradient of the predicted quality
_base_ = './quality.py'
part = dict(
    model=dict(sampler=dict(guidance=dict(type='QualityGuidance', scale=0.1, mode='final')))
)
