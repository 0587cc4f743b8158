# Mixed precision, and an average of the weights (0.999) that is what is tested
# and saved as state_dict. On a CPU: type='PartBf16OptimWrapper'
amp = dict(type='PartAmpOptimWrapper', loss_scale='dynamic')
ema = dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.001)
