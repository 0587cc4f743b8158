# Mixed precision (bfloat16 on CPUs), and an average of the weights (0.999) that
# is what is tested and saved as state_dict
part = dict(
    optim_wrapper=dict(type='PartAmpOptimWrapper', loss_scale='dynamic'),
    custom_hooks=[dict(type='EMAHook', ema_type='ForeachEMA', momentum=0.001, gamma=2000)],
)
