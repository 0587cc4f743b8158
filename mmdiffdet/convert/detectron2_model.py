"""A model config of ours from the Detectron2 system's options."""

from typing import Any, Dict, Mapping

from .detectron2_options import sections

_GEO_FEAT_LISTS = {
    ('proposal', 'qk_pos'): 'position_parts',
    ('proposal', 'add'): 'feature_parts',
    ('reg', 'qk_pos'): 'regression_parts',
    ('reg', 'add'): 'regression_parts',
}


def _one_of(options: Mapping[str, Any], name: str, *valid: str) -> str:
    if options[name] not in valid:
        raise ValueError(f'{name}: unknown value {options[name]!r}; choose from {list(valid)}')
    return options[name]


def model_config(options: Mapping[str, Any]) -> Dict[str, Any]:
    """The model config of a set of Detectron2 options, less backbone and neck.

    ``options`` have names without ``MODEL.DiffusionDet.``; what is not given has
    Detectron2's default. ValueError if a name or a value is unknown.
    """
    s = sections(options)
    switch = s['switch']
    head = s['head']
    stage = dict(type='DiffusionDetStage', **s['stage'])
    stage['interaction'] = dict(
        type='NoInteraction' if switch['DISABLE_SELF_ATTN'] else 'SelfAttention', **s['interaction']
    )
    config = dict(
        type='DiffusionDet',
        bbox_head=dict(
            type='DiffusionDetHead',
            **head,
            stage=stage,
            roi_extractor=dict(
                type='GatherRoIExtractor',
                out_channels=head['feat_channels'],
                featmap_strides=[4, 8, 16, 32],
            ),
        ),
        criterion=_criterion(s),
        sampler=_sampler(s),
        box_codec=dict(type='BoxCodec', **s['box_codec']),
        train_cfg=dict(s['proposals']),
        test_cfg=dict(s['proposals'], **s['test']),
    )
    if switch['ANISO_NOISE']:
        sigmas = (switch[f'ANISO_NOISE_SIGMA_{side}'] for side in ('XY', 'XY', 'W', 'H'))
        config['box_codec']['noise_sigma'] = tuple(sigmas)
    if switch['LABEL_STATE'] or switch['LABEL_D3PM']:
        stage.setdefault('feature_parts', []).append(
            dict(type='LabelEmbedding', **s['label_embedding'])
        )
        d3pm = switch['LABEL_D3PM']
        config['label_scheduler'] = dict(
            type='D3PMScheduler',
            kernel=switch['LABEL_D3PM_KERNEL'] if d3pm else 'mask',
            use_distribution=d3pm and switch['LABEL_D3PM_USE_DISTRIBUTION'],
            **s['label_scheduler'],
        )
    if switch['GEO_FEAT']:
        where = _GEO_FEAT_LISTS[
            _one_of(switch, 'GEO_FEAT_TARGET', 'proposal', 'reg'),
            _one_of(switch, 'GEO_FEAT_PROPOSAL_MODE', 'qk_pos', 'add'),
        ]
        part = dict(type='GeometryFeature', **s['geometry_feature'])
        stage.setdefault(where, []).append(dict(part, schedule=s['geometry_feature_schedule']))
    if switch['GEO_BIAS']:
        learnable = switch['GEO_BIAS_LEARNABLE_SCALE']
        stage['attention_parts'] = [
            dict(
                type='GeometryBias',
                **s['geometry_bias'],
                learnable_heads=s['interaction']['num_heads'] if learnable else 0,
                schedule=s['geometry_bias_schedule'],
            )
        ]
    if switch['QUALITY_HEAD']:
        stage['output_parts'] = [dict(type='QualityHead', **s['quality'])]
        config['criterion']['loss_quality'] = dict(type='QualityLoss', **s['quality_loss'])
    if switch['QUALITY_SCORE_REWEIGHT']:
        config['test_cfg']['quality_power'] = switch['QUALITY_SCORE_POWER']
    return config


def _criterion(s: Dict[str, Dict[str, Any]]) -> Dict[str, Any]:
    weights, focal = s['weights'], s['focal']
    if _one_of(s['switch'], 'CLS_LOSS_TYPE', 'focal', 'qfl') == 'qfl':
        loss_cls = dict(type='QualityFocalLoss', **s['qfl'])
    else:
        loss_cls = dict(type='mmdet.FocalLoss', **focal)
    criterion = dict(
        type='DiffusionDetCriterion',
        num_classes=s['head']['num_classes'],
        **s['criterion'],
        assigner=dict(
            type='DynamicKAssigner',
            **s['assigner'],
            **focal,
            cls_weight=weights['cls'],
            bbox_weight=weights['bbox'],
            giou_weight=weights['iou'],
        ),
        loss_cls=dict(loss_cls, use_sigmoid=True, loss_weight=weights['cls']),
        loss_bbox=dict(type='mmdet.L1Loss', loss_weight=weights['bbox']),
        loss_iou=dict(type='GIoULoss', loss_weight=weights['iou']),
    )
    if s['topology']['loss_weight'] != 0:
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
        **s['sampler'],
    )
    if s['guidance']['scale'] != 0:
        sampler['guidance'] = dict(
            type='QualityGuidance', **s['guidance'], schedule=s['guidance_schedule']
        )
    return sampler
