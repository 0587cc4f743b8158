# A consistency model from the warm start, without a teacher
_base_ = './pcb_20to1.py'
model = dict(train_cfg=dict(timesteps='all'))
custom_hooks = [dict(type='ConsistencyModelHook', last_intervals=50)]
