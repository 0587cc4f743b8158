"""The Detectron2 system's options and what they are here: one table.

``OPTIONS`` maps a name to its default there and to where its value
goes: a section and a key. Names under ``MODEL.DiffusionDet`` stand without
that prefix; those of Detectron2 itself have their full name.
:mod:`~mmdiffdet.convert.detectron2_config` reads the sections.
"""

from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional


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


def _same(section: str, **defaults: Any) -> Dict[str, Option]:
    """Options of a section that keep their names."""
    return {k: Option(v, section) for k, v in defaults.items()}


def _levels(prefix: str) -> List[str]:
    return [f'{prefix}{i}' for i in (2, 3, 4, 5)]


OPTIONS: Dict[str, Option] = {
    # sizes
    'NUM_CLASSES': Option(80, 'head', 'num_classes'),
    'NUM_PROPOSALS': Option(500, 'proposals', 'num_proposals'),
    'HIDDEN_DIM': Option(256, 'head', 'feat_channels'),
    'NUM_HEADS': Option(6, 'head', 'num_stages'),
    'NHEADS': Option(8, 'interaction', 'num_heads'),
    'DIM_FEEDFORWARD': Option(2048, 'stage', 'feedforward_channels'),
    'DIM_DYNAMIC': Option(64, 'stage', 'dynamic_dim'),
    'NUM_CLS': Option(1, 'stage', 'num_cls_fcs'),
    'NUM_REG': Option(3, 'stage', 'num_reg_fcs'),
    'PRIOR_PROB': Option(0.01, 'stage', 'prior_prob'),
    # signal and sampling
    'SNR_SCALE': Option(2.0, 'box_codec', 'scale'),
    'SAMPLE_STEP': Option(1, 'sampler', 'sampling_timesteps'),
    'USE_NMS': Option(
        True, 'test', 'nms', lambda on: dict(type='nms', iou_threshold=0.5) if on else None
    ),
    **_same(
        'switch',
        ANISO_NOISE=False,
        ANISO_NOISE_SIGMA_XY=1.0,
        ANISO_NOISE_SIGMA_W=1.0,
        ANISO_NOISE_SIGMA_H=1.0,
    ),
    # matching and losses
    'OTA_K': Option(5, 'assigner', 'candidate_topk'),
    'CLASS_WEIGHT': Option(2.0, 'weights', 'cls'),
    'L1_WEIGHT': Option(5.0, 'weights', 'bbox'),
    'GIOU_WEIGHT': Option(2.0, 'weights', 'iou'),
    'ALPHA': Option(0.25, 'focal', 'alpha'),
    'GAMMA': Option(2.0, 'focal', 'gamma'),
    'QFL_BETA': Option(2.0, 'qfl', 'beta'),
    'BOX_LOSS_IOU_WEIGHT_POWER': Option(0.0, 'criterion', 'iou_weight_power'),
    **_same('switch', CLS_LOSS_TYPE='focal', USE_FED_LOSS=False),
    # interaction and topology
    **_same('switch', DISABLE_SELF_ATTN=False),
    'GRAPH_TOPO_LOSS_WEIGHT': Option(0.0, 'topology', 'loss_weight'),
    'GRAPH_TOPO_TARGET_NORM': Option('row', 'topology', 'norm'),
    'GRAPH_TOPO_IOU_THRESH': Option(0.1, 'topology', 'iou_thr'),
    # label state
    **_same(
        'switch',
        LABEL_STATE=False,
        LABEL_D3PM=False,
        LABEL_D3PM_USE_DISTRIBUTION=True,
        LABEL_D3PM_KERNEL='mask',
    ),
    'LABEL_STATE_SCALE': Option(0.1, 'label_embedding', 'scale'),
    'LABEL_STATE_RELATIVE_TO_UNK': Option(False, 'label_embedding', 'relative_to_unk'),
    'LABEL_STATE_KEEP_PROB_SCHEDULE': Option(
        'sqrt_alphas_cumprod', 'label_scheduler', 'keep_schedule'
    ),
    'LABEL_STATE_KEEP_PROB_CONST': Option(1.0, 'label_scheduler', 'keep_const'),
    'LABEL_STATE_KEEP_PROB_POWER': Option(1.0, 'label_scheduler', 'keep_power'),
    'LABEL_STATE_KEEP_PROB_MIN': Option(0.0, 'label_scheduler', 'keep_min'),
    # quality
    **_same('switch', QUALITY_HEAD=False),
    'QUALITY_HEAD_HIDDEN_DIM': Option(256, 'quality', 'hidden_dim'),
    'QUALITY_HEAD_INCLUDE_T': Option(True, 'quality', 'include_t'),
    'QUALITY_HEAD_USE_LOG_WH': Option(True, 'quality', 'use_log_wh'),
    'QUALITY_LOSS_TYPE': Option('bce', 'quality_loss', 'loss_type'),
    'QUALITY_LOSS_WEIGHT': Option(1.0, 'quality_loss', 'loss_weight'),
    'QUALITY_SCORE_REWEIGHT': Option(False, 'switch'),
    'QUALITY_SCORE_POWER': Option(1.0, 'switch'),
    'QUALITY_GUIDANCE_SCALE': Option(0.0, 'guidance', 'scale'),
    'QUALITY_GUIDANCE_TOPK': Option(50, 'guidance', 'topk'),
    'QUALITY_GUIDANCE_SCORE_WEIGHT': Option(True, 'guidance', 'score_weight'),
    'QUALITY_GUIDANCE_GRAD_NORM': Option('proposal', 'guidance', 'grad_norm'),
    'QUALITY_GUIDANCE_MODE': Option('final', 'guidance', 'mode'),
    'QUALITY_GUIDANCE_T_THRESHOLD': Option(0, 'guidance', 't_threshold'),
    'QUALITY_GUIDANCE_LANGEVIN_STEPS': Option(1, 'guidance', 'langevin_steps'),
    'QUALITY_GUIDANCE_LANGEVIN_NOISE': Option(0.0, 'guidance', 'noise_scale'),
    'QUALITY_GUIDANCE_STEP_SCHEDULE': Option('constant', 'guidance_schedule', 'type'),
    'QUALITY_GUIDANCE_STEP_POWER': Option(1.0, 'guidance_schedule', 'power'),
    # geometry in the attention logits
    **_same('switch', GEO_BIAS=False, GEO_BIAS_LEARNABLE_SCALE=False),
    'GEO_BIAS_TYPE': Option('distance', 'geometry_bias', 'mode'),
    'GEO_BIAS_SCALE': Option(1.0, 'geometry_bias', 'scale'),
    'GEO_BIAS_SIGMA': Option(2.0, 'geometry_bias', 'sigma'),
    'GEO_BIAS_MIN_NORM': Option(0.0, 'geometry_bias', 'min_norm'),
    'GEO_BIAS_HIDDEN_DIM': Option(64, 'geometry_bias', 'hidden_dim'),
    'GEO_BIAS_REL_INCLUDE_IOU': Option(False, 'geometry_bias', 'include_iou'),
    'GEO_BIAS_USE_LOG_WH': Option(True, 'geometry_bias', 'use_log_wh'),
    'GEO_BIAS_TOPK': Option(0, 'geometry_bias', 'topk'),
    'GEO_BIAS_SCHEDULE': Option('constant', 'geometry_bias_schedule', 'type'),
    'GEO_BIAS_TIME_POWER': Option(1.0, 'geometry_bias_schedule', 'power'),
    'GEO_BIAS_T_THRESHOLD': Option(0, 'geometry_bias_schedule', 'threshold'),
    # geometry in the features
    **_same('switch', GEO_FEAT=False, GEO_FEAT_TARGET='proposal', GEO_FEAT_PROPOSAL_MODE='qk_pos'),
    'GEO_FEAT_SCALE': Option(0.1, 'geometry_feature', 'scale'),
    'GEO_FEAT_ENCODER': Option('mlp', 'geometry_feature', 'encoder'),
    'GEO_FEAT_HIDDEN_DIM': Option(64, 'geometry_feature', 'hidden_dim'),
    'GEO_FEAT_USE_LOG_WH': Option(True, 'geometry_feature', 'use_log_wh'),
    'GEO_FEAT_REL': Option(False, 'geometry_feature', 'relative'),
    'GEO_FEAT_REL_NORM': Option('softmax', 'geometry_feature', 'relative_norm'),
    'GEO_FEAT_REL_INCLUDE_IOU': Option(False, 'geometry_feature', 'include_iou'),
    'GEO_FEAT_SCHEDULE': Option('linear', 'geometry_feature_schedule', 'type'),
    'GEO_FEAT_TIME_POWER': Option(2.0, 'geometry_feature_schedule', 'power'),
    'GEO_FEAT_T_THRESHOLD': Option(0, 'geometry_feature_schedule', 'threshold'),
    'GEO_FEAT_TRAIN_START_ITER': Option(0, 'geometry_warmup', 'start'),
    'GEO_FEAT_TRAIN_WARMUP_ITERS': Option(0, 'geometry_warmup', 'warmup'),
    'GEO_FEAT_LR_MULT': Option(1.0, 'lr_mult', 'geometry'),
    'QUALITY_HEAD_LR_MULT': Option(1.0, 'lr_mult', 'quality'),
    **_same(
        'fixed',
        NUM_DYNAMIC=2,
        DROPOUT=0.0,
        ACTIVATION='relu',
        DEEP_SUPERVISION=True,
        USE_FOCAL=True,
    ),
    'NO_OBJECT_WEIGHT': Option(0.1, 'unused'),  # of softmax classification
    # Detectron2: model
    **_same(
        'fixed',
        **{
            'MODEL.META_ARCHITECTURE': 'DiffusionDet',
            'MODEL.MASK_ON': False,
            'MODEL.BACKBONE.NAME': 'build_resnet_fpn_backbone',
            'MODEL.RESNETS.NORM': 'FrozenBN',
            'MODEL.RESNETS.OUT_FEATURES': _levels('res'),
            'MODEL.FPN.IN_FEATURES': _levels('res'),
            'MODEL.FPN.FUSE_TYPE': 'sum',
            'MODEL.FPN.NORM': '',
            'MODEL.ROI_HEADS.IN_FEATURES': _levels('p'),
            'MODEL.ROI_BOX_HEAD.POOLER_TYPE': 'ROIAlignV2',
            'MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION': 7,
            'MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO': 2,
        },
    ),
    **_same(
        'backbone',
        **{
            'MODEL.WEIGHTS': '',
            'MODEL.BACKBONE.FREEZE_AT': 2,
            'MODEL.RESNETS.DEPTH': 50,
            'MODEL.RESNETS.STRIDE_IN_1X1': True,
        },
    ),
    'MODEL.FPN.OUT_CHANNELS': Option(256, 'neck', 'out_channels'),
    'MODEL.PIXEL_MEAN': Option([103.53, 116.28, 123.675], 'preprocessor', 'mean'),
    'MODEL.PIXEL_STD': Option([1.0, 1.0, 1.0], 'preprocessor', 'std'),
    'INPUT.FORMAT': Option('BGR', 'preprocessor', 'bgr_to_rgb', lambda order: order == 'RGB'),
    'MODEL.DEVICE': Option('cuda', 'unused'),
    # Detectron2: data
    **_same(
        'data',
        **{
            'DATASETS.TRAIN': (),
            'DATASETS.TEST': (),
            'INPUT.MIN_SIZE_TRAIN': (800,),
            'INPUT.MAX_SIZE_TRAIN': 1333,
            'INPUT.MIN_SIZE_TEST': 800,
            'INPUT.MAX_SIZE_TEST': 1333,
            'INPUT.CROP.ENABLED': False,
            'INPUT.CROP.SIZE': (0.9, 0.9),
            'INPUT.CROP.TYPE': 'relative_range',
            'DATALOADER.NUM_WORKERS': 4,
            'DATALOADER.FILTER_EMPTY_ANNOTATIONS': True,
            'SOLVER.IMS_PER_BATCH': 16,
        },
    ),
    **_same(
        'fixed',
        **{
            'INPUT.MIN_SIZE_TRAIN_SAMPLING': 'choice',
            'INPUT.RANDOM_FLIP': 'horizontal',
            'DATALOADER.SAMPLER_TRAIN': 'TrainingSampler',
            'TEST.AUG.ENABLED': False,
        },
    ),
    'DATALOADER.ASPECT_RATIO_GROUPING': Option(False, 'unused'),
    'TEST.DETECTIONS_PER_IMAGE': Option(100, 'unused'),  # COCO's own limit
    # Detectron2: training
    **_same(
        'schedule',
        **{
            'SEED': -1,
            'OUTPUT_DIR': './output',
            'SOLVER.BASE_LR': 0.001,
            'SOLVER.WEIGHT_DECAY': 1e-4,
            'SOLVER.BACKBONE_MULTIPLIER': 1.0,
            'SOLVER.STEPS': (30000,),
            'SOLVER.GAMMA': 0.1,
            'SOLVER.MAX_ITER': 40000,
            'SOLVER.WARMUP_FACTOR': 0.001,
            'SOLVER.WARMUP_ITERS': 1000,
            'SOLVER.CLIP_GRADIENTS.ENABLED': False,
            'SOLVER.CLIP_GRADIENTS.CLIP_VALUE': 1.0,
            'SOLVER.CLIP_GRADIENTS.NORM_TYPE': 2.0,
            'SOLVER.AMP.ENABLED': False,
            'SOLVER.CHECKPOINT_PERIOD': 5000,
            'TEST.EVAL_PERIOD': 0,
            'MODEL_EMA.ENABLED': False,
            'MODEL_EMA.DECAY': 0.999,
        },
    ),
    **_same(
        'fixed',
        **{
            'SOLVER.OPTIMIZER': 'ADAMW',
            'SOLVER.LR_SCHEDULER_NAME': 'WarmupMultiStepLR',
            'SOLVER.WARMUP_METHOD': 'linear',
            'SOLVER.CLIP_GRADIENTS.CLIP_TYPE': 'full_model',
        },
    ),
    # distillation, as far as the record names its options
    'SAMPLER_DISTILL_TEACHER_WEIGHTS': Option('', 'distill', 'teacher'),
    'SAMPLER_DISTILL_STUDENT_SAMPLE_STEP': Option(1, 'distill', 'student_steps'),
    'SAMPLER_DISTILL_TOPK': Option(100, 'distill', 'topk'),
    'SAMPLER_DISTILL_BOX_WEIGHT': Option(1.0, 'distill', 'box_weight'),
    'SAMPLER_DISTILL_CLS_WEIGHT': Option(0.0, 'distill', 'cls_weight'),
    'MODEL_EMA.USE_EMA_WEIGHTS_FOR_EVAL_ONLY': Option(False, 'unused'),
    'MODEL_EMA.DEVICE': Option('', 'unused'),
    'CUDNN_BENCHMARK': Option(False, 'unused'),
    'VIS_PERIOD': Option(0, 'unused'),
    'VERSION': Option(2, 'unused'),
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
