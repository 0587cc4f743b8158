custom_imports = dict(imports=['mmdiffdet.engine'], allow_failed_imports=False)
default_scope = 'mmdiffdet'

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', interval=5000, by_epoch=False, max_keep_ckpts=2),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='DetVisualizationHook'),
    checkpoint_guard=dict(type='CheckpointGuardHook'),
    origin=dict(type='OriginHook'),
    num_classes=dict(type='NumClassCheckHook'),  # of data set and model
    proposal_count=dict(type='ProposalCountHook'),
    iteration_seed=dict(type='IterationSeedHook'),
)
custom_hooks = []

env_cfg = dict(
    cudnn_benchmark=False,
    float32_matmul_precision='high',  # TF32; of GPUs alone
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
# of training, tools/train.py --train-seed; the second seed, of testing, is
# model.test_cfg.eval_seed
randomness = dict(seed={{'$TRAIN_SEED:0'}})

visualizer = dict(
    type='DetLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')], name='visualizer'
)
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=False)
log_level = 'INFO'
load_from = None
resume = False
