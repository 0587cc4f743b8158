# The student's one step learns from the teacher's twenty; SamplerDistillHook's
# defaults are the "stable" ones of the reference's notes. The files of single seeds
# say the same with a seed of their own
_base_ = '../warmstart/warmstart.py'
load_from = 'work_dirs/warmstart_seed{{$TRAIN_SEED:0}}/iter_2500.pth'
custom_hooks = [dict(type='SamplerDistillHook', teacher=dict(checkpoint=load_from))]
