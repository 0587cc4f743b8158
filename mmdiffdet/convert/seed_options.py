"""The seed system's options and what they are here: one table.

``OPTIONS`` maps a name under ``MODEL.DiffusionDet`` to its default in the
seed and to where its value goes: a section and a key. :func:`model_config`
turns a set of options into a model config of ours, without backbone and neck.
"""
from dataclasses import dataclass
from typing import Any, Callable, Dict, Mapping, Optional


@dataclass(frozen=True)
class Option:
    """Where an option of the seed goes.

    Args:
        default (Any): The seed's default.
        section (str): What it configures; ``switch`` for those that
            :func:`model_config` reads itself.
        key (str): Argument within the section.
        convert (Callable, optional): From the seed's value to ours.
    """

    default: Any
    section: str
    key: str = ''
    convert: Optional[Callable[[Any], Any]] = None


def _same(section: str, **defaults: Any) -> Dict[str, Option]:
    """Switches named like their keyword."""
    return {k: Option(v, section) for k, v in defaults.items()}


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
    'USE_NMS': Option(True, 'test', 'nms', lambda on: dict(
        type='nms', iou_threshold=0.5) if on else None),
    **_same(
        'switch',
        ANISO_NOISE=False,
        ANISO_NOISE_SIGMA_XY=1.0,
        ANISO_NOISE_SIGMA_W=1.0,
        ANISO_NOISE_SIGMA_H=1.0),
    # matching and losses
    'OTA_K': Option(5, 'matcher', 'candidate_topk'),
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
        LABEL_D3PM_KERNEL='mask'),
    'LABEL_STATE_SCALE': Option(0.1, 'label_embedding', 'scale'),
    'LABEL_STATE_RELATIVE_TO_UNK': Option(False, 'label_embedding',
                                          'relative_to_unk'),
    'LABEL_STATE_KEEP_PROB_SCHEDULE': Option('sqrt_alphas_cumprod',
                                             'label_scheduler',
                                             'keep_schedule'),
    'LABEL_STATE_KEEP_PROB_CONST': Option(1.0, 'label_scheduler',
                                          'keep_const'),
    'LABEL_STATE_KEEP_PROB_POWER': Option(1.0, 'label_scheduler',
                                          'keep_power'),
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
    'QUALITY_GUIDANCE_LANGEVIN_STEPS': Option(1, 'guidance',
                                              'langevin_steps'),
    'QUALITY_GUIDANCE_LANGEVIN_NOISE': Option(0.0, 'guidance', 'noise_scale'),
    'QUALITY_GUIDANCE_STEP_SCHEDULE': Option('constant', 'guidance_schedule',
                                             'type'),
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
    **_same(
        'switch',
        GEO_FEAT=False,
        GEO_FEAT_TARGET='proposal',
        GEO_FEAT_PROPOSAL_MODE='qk_pos'),
    'GEO_FEAT_SCALE': Option(0.1, 'geometry_feature', 'scale'),
    'GEO_FEAT_ENCODER': Option('mlp', 'geometry_feature', 'encoder'),
    'GEO_FEAT_HIDDEN_DIM': Option(64, 'geometry_feature', 'hidden_dim'),
    'GEO_FEAT_USE_LOG_WH': Option(True, 'geometry_feature', 'use_log_wh'),
    'GEO_FEAT_REL': Option(False, 'geometry_feature', 'relative'),
    'GEO_FEAT_REL_NORM': Option('softmax', 'geometry_feature',
                                'relative_norm'),
    'GEO_FEAT_REL_INCLUDE_IOU': Option(False, 'geometry_feature',
                                       'include_iou'),
    'GEO_FEAT_SCHEDULE': Option('linear', 'geometry_feature_schedule',
                                'type'),
    'GEO_FEAT_TIME_POWER': Option(2.0, 'geometry_feature_schedule', 'power'),
    'GEO_FEAT_T_THRESHOLD': Option(0, 'geometry_feature_schedule',
                                   'threshold'),
    'GEO_FEAT_TRAIN_START_ITER': Option(0, 'geometry_warmup', 'start'),
    'GEO_FEAT_TRAIN_WARMUP_ITERS': Option(0, 'geometry_warmup', 'warmup'),
    'GEO_FEAT_LR_MULT': Option(1.0, 'lr_mult', 'geometry'),
    'GEO_BIAS_LR_MULT': Option(1.0, 'lr_mult', 'geometry_bias'),
    'QUALITY_HEAD_LR_MULT': Option(1.0, 'lr_mult', 'quality'),
}

_GEO_FEAT_LISTS = {
    ('proposal', 'qk_pos'): 'position_parts',
    ('proposal', 'add'): 'feature_parts',
    ('reg', 'qk_pos'): 'regression_parts',
    ('reg', 'add'): 'regression_parts',
}


def _one_of(options: Mapping[str, Any], name: str, *valid: str) -> str:
    if options[name] not in valid:
        raise ValueError(f'{name}: unknown value {options[name]!r}; '
                         f'choose from {list(valid)}')
    return options[name]


def sections(options: Mapping[str, Any]) -> Dict[str, Dict[str, Any]]:
    """Options, completed with the seed's defaults, by section.

    Raises:
        ValueError: If an option is not in the table; lists all such.
    """
    unknown = sorted(set(options) - set(OPTIONS))
    if unknown:
        raise ValueError(f'unknown seed options: {", ".join(unknown)}')
    found: Dict[str, Dict[str, Any]] = {}
    for name, option in OPTIONS.items():
        value = options.get(name, option.default)
        if option.convert is not None:
            value = option.convert(value)
        found.setdefault(option.section, {})[option.key or name] = value
    return found


def model_config(options: Mapping[str, Any]) -> Dict[str, Any]:
    """The model config of a set of seed options, less backbone and neck.

    Args:
        options (Mapping[str, Any]): Names without ``MODEL.DiffusionDet.``;
            what is not given has the seed's default.

    Raises:
        ValueError: If a name or a value is unknown.
    """
    s = sections(options)
    switch = s['switch']
    head = s['head']
    stage = dict(type='DiffusionDetStage', **s['stage'])
    stage['interaction'] = dict(
        type='NoInteraction'
        if switch['DISABLE_SELF_ATTN'] else 'SelfAttention',
        **s['interaction'])
    config = dict(
        type='DiffusionDet',
        bbox_head=dict(
            type='DiffusionDetHead',
            **head,
            stage=stage,
            roi_extractor=dict(
                type='GatherRoIExtractor',
                out_channels=head['feat_channels'],
                featmap_strides=[4, 8, 16, 32])),
        criterion=_criterion(s),
        sampler=_sampler(s),
        box_codec=dict(type='BoxCodec', **s['box_codec']),
        train_cfg=dict(s['proposals']),
        test_cfg=dict(s['proposals'], **s['test']))
    if switch['ANISO_NOISE']:
        xy = switch['ANISO_NOISE_SIGMA_XY']
        config['box_codec']['noise_sigma'] = (xy, xy,
                                              switch['ANISO_NOISE_SIGMA_W'],
                                              switch['ANISO_NOISE_SIGMA_H'])
    if switch['LABEL_STATE'] or switch['LABEL_D3PM']:
        stage.setdefault('feature_parts', []).append(
            dict(
                type='LabelEmbedding',
                num_classes=head['num_classes'],
                **s['label_embedding']))
        d3pm = switch['LABEL_D3PM']
        config['label_scheduler'] = dict(
            type='D3PMScheduler',
            num_classes=head['num_classes'],
            kernel=switch['LABEL_D3PM_KERNEL'] if d3pm else 'mask',
            use_distribution=d3pm and switch['LABEL_D3PM_USE_DISTRIBUTION'],
            **s['label_scheduler'])
    if switch['GEO_FEAT']:
        where = _GEO_FEAT_LISTS[
            _one_of(switch, 'GEO_FEAT_TARGET', 'proposal', 'reg'),
            _one_of(switch, 'GEO_FEAT_PROPOSAL_MODE', 'qk_pos', 'add')]
        stage.setdefault(where, []).append(
            dict(
                type='GeometryFeature',
                **s['geometry_feature'],
                schedule=s['geometry_feature_schedule']))
    if switch['GEO_BIAS']:
        learnable = switch['GEO_BIAS_LEARNABLE_SCALE']
        stage['attention_parts'] = [
            dict(
                type='GeometryBias',
                **s['geometry_bias'],
                learnable_heads=s['interaction']['num_heads']
                if learnable else 0,
                schedule=s['geometry_bias_schedule'])
        ]
    if switch['QUALITY_HEAD']:
        stage['output_parts'] = [dict(type='QualityHead', **s['quality'])]
        config['criterion']['loss_quality'] = dict(
            type='QualityLoss', **s['quality_loss'])
    if switch['QUALITY_SCORE_REWEIGHT']:
        config['test_cfg']['quality_power'] = switch['QUALITY_SCORE_POWER']
    return config


def _criterion(s: Dict[str, Dict[str, Any]]) -> Dict[str, Any]:
    weights, focal = s['weights'], s['focal']
    if _one_of(s['switch'], 'CLS_LOSS_TYPE', 'focal', 'qfl') == 'qfl':
        loss_cls = dict(type='mmdet.QualityFocalLoss', **s['qfl'])
    else:
        loss_cls = dict(type='mmdet.FocalLoss', **focal)
    criterion = dict(
        type='DiffusionDetCriterion',
        num_classes=s['head']['num_classes'],
        **s['criterion'],
        matcher=dict(
            type='DynamicKMatcher',
            **s['matcher'],
            match_costs=[
                dict(
                    type='mmdet.FocalLossCost',
                    **focal,
                    eps=1e-8,
                    weight=weights['cls']),
                dict(
                    type='mmdet.BBoxL1Cost',
                    box_format='xyxy',
                    weight=weights['bbox']),
                dict(
                    type='mmdet.IoUCost',
                    iou_mode='giou',
                    weight=weights['iou'])
            ]),
        loss_cls=dict(
            loss_cls,
            use_sigmoid=True,
            loss_weight=weights['cls']),
        loss_bbox=dict(
            type='mmdet.L1Loss', loss_weight=weights['bbox']),
        loss_iou=dict(
            type='mmdet.GIoULoss', loss_weight=weights['iou']))
    if s['topology']['loss_weight'] > 0:
        criterion['loss_topology'] = dict(type='TopologyLoss', **s['topology'])
    if s['switch']['USE_FED_LOSS']:
        criterion['federated'] = dict(type='FederatedClasses')
    return criterion


def _sampler(s: Dict[str, Dict[str, Any]]) -> Dict[str, Any]:
    sampler = dict(
        type='DiffusionSampler',
        scheduler=dict(type='DDIMScheduler'),
        eta=1.0,
        renewal=dict(type='BoxRenewal', score_thr=0.5),
        ensemble=dict(type='StepEnsemble'),
        **s['sampler'])
    if s['guidance']['scale'] > 0:
        sampler['guidance'] = dict(
            type='QualityGuidance',
            **s['guidance'],
            schedule=s['guidance_schedule'])
    return sampler
