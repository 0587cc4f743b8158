"""The Detectron2 system's options and what they are here: one table.

``OPTIONS`` maps a name to its default there and to where its value
goes: a section and a key. Names under ``MODEL.DiffusionDet`` stand without
that prefix; those of Detectron2 itself have their full name.
:mod:`~mmdiffdet.convert.detectron2_config` reads the sections.
"""

from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple


@dataclass(frozen=True)
class Option:
    """Where an option of the Detectron2 system goes.

    Args:
        default (Any): That system's default.
        section (str): What it configures; ``switch`` for those that choose
            between sections, ``fixed`` for those that can only have their
            default here, ``unused`` for those without a counterpart, which are
            reported where they differ from their default.
        key (str): Argument within the section; by default the option's name.
        convert (Callable, optional): From Detectron2's value to ours.
    """

    default: Any
    section: str
    key: str = ''
    convert: Optional[Callable[[Any], Any]] = None


def _same(section: str, prefix: str = '', **defaults: Any) -> Dict[str, Option]:
    """Options of a section that keep their names."""
    return {f'{prefix}{k}': Option(v, section) for k, v in defaults.items()}


def _to(section: str, prefix: str = '', **options: Tuple[str, Any]) -> Dict[str, Option]:
    """Options of a section by (argument, default)."""
    return {f'{prefix}{k}': Option(v, section, key) for k, (key, v) in options.items()}


def _levels(prefix: str) -> List[str]:
    return [f'{prefix}{i}' for i in (2, 3, 4, 5)]


OPTIONS: Dict[str, Option] = {
    # sizes
    **_to('head', NUM_CLASSES=('num_classes', 80), HIDDEN_DIM=('feat_channels', 256)),
    **_to('head', NUM_HEADS=('num_stages', 6)),
    **_to('proposals', NUM_PROPOSALS=('num_proposals', 500)),
    **_to('interaction', NHEADS=('num_heads', 8)),
    **_to('stage', DIM_FEEDFORWARD=('feedforward_channels', 2048), DIM_DYNAMIC=('dynamic_dim', 64)),
    **_to('stage', NUM_CLS=('num_cls_fcs', 1), NUM_REG=('num_reg_fcs', 3)),
    **_to('stage', PRIOR_PROB=('prior_prob', 0.01)),
    # signal and sampling
    **_to('box_codec', SNR_SCALE=('scale', 2.0)),
    **_to('sampler', SAMPLE_STEP=('sampling_timesteps', 1)),
    'USE_NMS': Option(
        True, 'test', 'nms', lambda on: dict(type='nms', iou_threshold=0.5) if on else None
    ),
    **_same('switch', ANISO_NOISE=False),
    **_same('switch', 'ANISO_NOISE_SIGMA_', XY=1.0, W=1.0, H=1.0),
    # matching and losses
    **_to('assigner', OTA_K=('candidate_topk', 5)),
    **_to('weights', CLASS_WEIGHT=('cls', 2.0), L1_WEIGHT=('bbox', 5.0), GIOU_WEIGHT=('iou', 2.0)),
    **_to('focal', ALPHA=('alpha', 0.25), GAMMA=('gamma', 2.0)),
    **_to('qfl', QFL_BETA=('beta', 2.0)),
    **_to('criterion', BOX_LOSS_IOU_WEIGHT_POWER=('iou_weight_power', 0.0)),
    **_same('switch', CLS_LOSS_TYPE='focal', USE_FED_LOSS=False),
    # interaction and topology
    **_same('switch', DISABLE_SELF_ATTN=False),
    **_to('topology', 'GRAPH_TOPO_', LOSS_WEIGHT=('loss_weight', 0.0), TARGET_NORM=('norm', 'row')),
    **_to('topology', 'GRAPH_TOPO_', IOU_THRESH=('iou_thr', 0.1)),
    # label state
    **_same('switch', 'LABEL_', STATE=False, D3PM=False, D3PM_USE_DISTRIBUTION=True),
    **_same('switch', LABEL_D3PM_KERNEL='mask'),
    **_to('label_embedding', 'LABEL_STATE_', SCALE=('scale', 0.1)),
    **_to('label_embedding', 'LABEL_STATE_', RELATIVE_TO_UNK=('relative_to_unk', False)),
    **_to(
        'label_scheduler',
        'LABEL_STATE_KEEP_PROB_',
        SCHEDULE=('keep_schedule', 'sqrt_alphas_cumprod'),
        CONST=('keep_const', 1.0),
        POWER=('keep_power', 1.0),
        MIN=('keep_min', 0.0),
    ),
    # quality
    **_same('switch', 'QUALITY_', HEAD=False, SCORE_REWEIGHT=False, SCORE_POWER=1.0),
    **_to(
        'quality', 'QUALITY_HEAD_', HIDDEN_DIM=('hidden_dim', 256), INCLUDE_T=('include_t', True)
    ),
    **_to('quality', 'QUALITY_HEAD_', USE_LOG_WH=('use_log_wh', True)),
    **_to('quality_loss', 'QUALITY_LOSS_', TYPE=('loss_type', 'bce'), WEIGHT=('loss_weight', 1.0)),
    **_to(
        'guidance',
        'QUALITY_GUIDANCE_',
        SCALE=('scale', 0.0),
        TOPK=('topk', 50),
        SCORE_WEIGHT=('score_weight', True),
        GRAD_NORM=('grad_norm', 'proposal'),
        MODE=('mode', 'final'),
        T_THRESHOLD=('t_threshold', 0),
        LANGEVIN_STEPS=('langevin_steps', 1),
        LANGEVIN_NOISE=('noise_scale', 0.0),
    ),
    **_to('guidance_schedule', 'QUALITY_GUIDANCE_STEP_', SCHEDULE=('type', 'constant')),
    **_to('guidance_schedule', 'QUALITY_GUIDANCE_STEP_', POWER=('power', 1.0)),
    # geometry in the attention logits
    **_same('switch', GEO_BIAS=False, GEO_BIAS_LEARNABLE_SCALE=False),
    **_to(
        'geometry_bias',
        'GEO_BIAS_',
        TYPE=('mode', 'distance'),
        SCALE=('scale', 1.0),
        SIGMA=('sigma', 2.0),
        MIN_NORM=('min_norm', 0.0),
        HIDDEN_DIM=('hidden_dim', 64),
        REL_INCLUDE_IOU=('include_iou', False),
        USE_LOG_WH=('use_log_wh', True),
        TOPK=('topk', 0),
    ),
    **_to(
        'geometry_bias_schedule',
        'GEO_BIAS_',
        SCHEDULE=('type', 'constant'),
        TIME_POWER=('power', 1.0),
        T_THRESHOLD=('threshold', 0),
    ),
    # geometry in the features
    **_same('switch', GEO_FEAT=False, GEO_FEAT_TARGET='proposal', GEO_FEAT_PROPOSAL_MODE='qk_pos'),
    **_to(
        'geometry_feature',
        'GEO_FEAT_',
        SCALE=('scale', 0.1),
        ENCODER=('encoder', 'mlp'),
        HIDDEN_DIM=('hidden_dim', 64),
        USE_LOG_WH=('use_log_wh', True),
        REL=('relative', False),
        REL_NORM=('relative_norm', 'softmax'),
        REL_INCLUDE_IOU=('include_iou', False),
    ),
    **_to(
        'geometry_feature_schedule',
        'GEO_FEAT_',
        SCHEDULE=('type', 'linear'),
        TIME_POWER=('power', 2.0),
        T_THRESHOLD=('threshold', 0),
    ),
    **_to(
        'geometry_warmup', 'GEO_FEAT_TRAIN_', START_ITER=('start', 0), WARMUP_ITERS=('warmup', 0)
    ),
    **_to('lr_mult', GEO_FEAT_LR_MULT=('geometry', 1.0), QUALITY_HEAD_LR_MULT=('quality', 1.0)),
    **_same('fixed', NUM_DYNAMIC=2, DROPOUT=0.0, ACTIVATION='relu'),
    **_same('fixed', DEEP_SUPERVISION=True, USE_FOCAL=True),
    **_same('unused', NO_OBJECT_WEIGHT=0.1),  # of softmax classification
    # Detectron2: model
    **_same('fixed', 'MODEL.', META_ARCHITECTURE='DiffusionDet', MASK_ON=False),
    **_same('fixed', 'MODEL.BACKBONE.', NAME='build_resnet_fpn_backbone'),
    **_same('fixed', 'MODEL.RESNETS.', NORM='FrozenBN', OUT_FEATURES=_levels('res')),
    **_same('fixed', 'MODEL.FPN.', IN_FEATURES=_levels('res'), FUSE_TYPE='sum', NORM=''),
    **_same('fixed', 'MODEL.ROI_HEADS.', IN_FEATURES=_levels('p')),
    **_same('fixed', 'MODEL.ROI_BOX_HEAD.POOLER_', TYPE='ROIAlignV2', RESOLUTION=7),
    **_same('fixed', 'MODEL.ROI_BOX_HEAD.POOLER_', SAMPLING_RATIO=2),
    **_same('backbone', 'MODEL.', WEIGHTS=''),
    **_same('backbone', 'MODEL.BACKBONE.', FREEZE_AT=2),
    **_same('backbone', 'MODEL.RESNETS.', DEPTH=50, STRIDE_IN_1X1=True),
    **_to('neck', 'MODEL.FPN.', OUT_CHANNELS=('out_channels', 256)),
    **_to('preprocessor', 'MODEL.PIXEL_', MEAN=('mean', [103.53, 116.28, 123.675])),
    **_to('preprocessor', 'MODEL.PIXEL_', STD=('std', [1.0, 1.0, 1.0])),
    'INPUT.FORMAT': Option('BGR', 'preprocessor', 'bgr_to_rgb', lambda order: order == 'RGB'),
    **_same('unused', 'MODEL.', DEVICE='cuda'),
    # Detectron2: data
    **_same('data', 'DATASETS.', TRAIN=(), TEST=()),
    **_same('data', 'INPUT.', MIN_SIZE_TRAIN=(800,), MAX_SIZE_TRAIN=1333),
    **_same('data', 'INPUT.', MIN_SIZE_TEST=800, MAX_SIZE_TEST=1333),
    **_same('data', 'INPUT.CROP.', ENABLED=False, SIZE=(0.9, 0.9), TYPE='relative_range'),
    **_same('data', 'DATALOADER.', NUM_WORKERS=4, FILTER_EMPTY_ANNOTATIONS=True),
    **_same('data', 'SOLVER.', IMS_PER_BATCH=16),
    **_same('fixed', 'INPUT.', MIN_SIZE_TRAIN_SAMPLING='choice', RANDOM_FLIP='horizontal'),
    **_same('fixed', 'DATALOADER.', SAMPLER_TRAIN='TrainingSampler'),
    **_same('unused', 'DATALOADER.', ASPECT_RATIO_GROUPING=False),
    **_same('fixed', 'TEST.AUG.', ENABLED=False),
    **_same('unused', 'TEST.', DETECTIONS_PER_IMAGE=100),  # COCO's own limit
    # Detectron2: training
    **_same('schedule', SEED=-1, OUTPUT_DIR='./output'),
    **_to('optimizer', 'SOLVER.', BASE_LR=('lr', 0.001), WEIGHT_DECAY=('weight_decay', 1e-4)),
    **_to('lr_mult', 'SOLVER.', BACKBONE_MULTIPLIER=('backbone', 1.0)),
    'SOLVER.STEPS': Option(
        (30000,), 'steps', 'milestones', lambda s: [s] if isinstance(s, int) else list(s)
    ),
    **_to('steps', 'SOLVER.', GAMMA=('gamma', 0.1)),
    **_to('warmup', 'SOLVER.WARMUP_', FACTOR=('start_factor', 0.001), ITERS=('end', 1000)),
    **_to('clip_grad', 'SOLVER.CLIP_GRADIENTS.', CLIP_VALUE=('max_norm', 1.0)),
    **_to('clip_grad', 'SOLVER.CLIP_GRADIENTS.', NORM_TYPE=('norm_type', 2.0)),
    **_same('schedule', 'SOLVER.CLIP_GRADIENTS.', ENABLED=False),
    **_same('schedule', 'SOLVER.', MAX_ITER=40000, CHECKPOINT_PERIOD=5000),
    **_same('schedule', 'SOLVER.AMP.', ENABLED=False),
    **_same('schedule', 'TEST.', EVAL_PERIOD=0),
    **_same('schedule', 'MODEL_EMA.', ENABLED=False, DECAY=0.999),
    **_same('fixed', 'SOLVER.', OPTIMIZER='ADAMW', LR_SCHEDULER_NAME='WarmupMultiStepLR'),
    **_same('fixed', 'SOLVER.', WARMUP_METHOD='linear'),
    **_same('fixed', 'SOLVER.CLIP_GRADIENTS.', CLIP_TYPE='full_model'),
    # distillation
    **_to(
        'distill',
        'SAMPLER_DISTILL_',
        TEACHER_WEIGHTS=('teacher', ''),
        STUDENT_SAMPLE_STEP=('student_steps', 1),
        TOPK=('topk', 100),
        BOX_WEIGHT=('box_weight', 1.0),
        CLS_WEIGHT=('cls_weight', 0.0),
    ),
    **_same('unused', 'MODEL_EMA.', USE_EMA_WEIGHTS_FOR_EVAL_ONLY=False, DEVICE=''),
    **_same('unused', CUDNN_BENCHMARK=False, VIS_PERIOD=0, VERSION=2),
}


def sections(options: Mapping[str, Any]) -> Dict[str, Dict[str, Any]]:
    """Options, completed with Detectron2's defaults, by section.

    ValueError lists the options that are not in the table.
    """
    unknown = sorted(set(options) - set(OPTIONS))
    if unknown:
        raise ValueError(f'unknown Detectron2 options: {", ".join(unknown)}')
    found: Dict[str, Dict[str, Any]] = {}
    for name, option in OPTIONS.items():
        value = options.get(name, option.default)
        if option.convert is not None:
            value = option.convert(value)
        found.setdefault(option.section, {})[option.key or name] = value
    return found
