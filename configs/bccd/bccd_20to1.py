# The warm-started model's one step learns from its twenty
_base_ = './bccd_warmstart.py'
load_from = 'work_dirs/bccd_warmstart_seed{{$TRAIN_SEED:0}}/iter_100.pth'
custom_hooks = [
    dict(
        type='SamplerDistillHook',
        teacher=dict(checkpoint=load_from, precision='bf16'))
]
