"""What Detectron2's options become, from the numbers that it has by default."""

import pytest

from mmdiffdet.convert.detectron2_config import convert_config
from mmdiffdet.convert.detectron2_model import model_config
from mmdiffdet.convert.detectron2_options import OPTIONS
from mmdiffdet.convert.detectron2_values import check_value, same
from mmdiffdet.convert.detectron2_yaml import read_yaml

COCO = {'DATASETS.TRAIN': ('coco_2017_train',), 'DATASETS.TEST': ('coco_2017_val',)}
# what detectron2/config/defaults.py and the system's own options are if no YAML sets them
MODEL = dict(
    type='DiffusionDet',
    bbox_head=dict(
        type='DiffusionDetHead',
        num_classes=80,
        feat_channels=256,
        num_stages=6,
        stage=dict(
            type='DiffusionDetStage',
            feedforward_channels=2048,
            dynamic_dim=64,
            num_cls_fcs=1,
            num_reg_fcs=3,
            prior_prob=0.01,
            interaction=dict(type='SelfAttention', num_heads=8),
        ),
        roi_extractor=dict(
            type='GatherRoIExtractor', out_channels=256, featmap_strides=[4, 8, 16, 32]
        ),
    ),
    criterion=dict(
        type='DiffusionDetCriterion',
        num_classes=80,
        iou_weight_power=0.0,
        assigner=dict(
            type='DynamicKAssigner',
            candidate_topk=5,
            alpha=0.25,
            gamma=2.0,
            cls_weight=2.0,
            bbox_weight=5.0,
            giou_weight=2.0,
        ),
        loss_cls=dict(
            type='mmdet.FocalLoss', alpha=0.25, gamma=2.0, use_sigmoid=True, loss_weight=2.0
        ),
        loss_bbox=dict(type='mmdet.L1Loss', loss_weight=5.0),
        loss_iou=dict(type='GIoULoss', loss_weight=2.0),
    ),
    sampler=dict(
        type='DiffusionSampler',
        scheduler=dict(type='DDIMScheduler'),
        eta=1.0,
        renewal=dict(type='BoxRenewal', score_thr=0.5),
        ensemble=dict(type='StepEnsemble'),
        sampling_timesteps=1,
    ),
    box_codec=dict(type='BoxCodec', scale=2.0),
    train_cfg=dict(num_proposals=500),
    test_cfg=dict(num_proposals=500, nms=dict(type='nms', iou_threshold=0.5)),
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        pad_size_divisor=32,
        mean=[103.53, 116.28, 123.675],
        std=[1.0, 1.0, 1.0],
        bgr_to_rgb=False,
    ),
    backbone=dict(
        type='ResNet',
        depth=50,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
        style='caffe',
    ),
    neck=dict(type='FPN', in_channels=[256, 512, 1024, 2048], num_outs=4, out_channels=256),
)
WARMUP = dict(type='LinearLR', by_epoch=False, begin=0, start_factor=0.001, end=1000)
STEPS = dict(type='MultiStepLR', by_epoch=False, begin=0, end=40000, milestones=[30000], gamma=0.1)
SCHEDULE = dict(
    train_cfg=dict(type='IterBasedTrainLoop', max_iters=40000, val_interval=40000),
    val_cfg=dict(type='ValLoop'),
    test_cfg=dict(type='MultiSeedTestLoop'),
    param_scheduler=[WARMUP, STEPS],
    optim_wrapper=dict(
        type='PartOptimWrapper',
        constructor='PartOptimWrapperConstructor',
        optimizer=dict(type='AdamW', lr=0.001, weight_decay=1e-4),
        paramwise_cfg=dict(geometry_lr_mult=1.0, quality_lr_mult=1.0, backbone_lr_mult=1.0),
    ),
    auto_scale_lr=dict(enable=False, base_batch_size=16),
    default_hooks=dict(checkpoint=dict(interval=5000)),
    work_dir='./output',
)


def converted(tmp_path, **options):
    """The config of options by their names, ``__`` for a dot."""
    values = {name.replace('__', '.'): value for name, value in options.items()}
    prefix = 'MODEL.DiffusionDet.'
    return convert_config({k if '.' in k else prefix + k: v for k, v in values.items()}, tmp_path)


def test_nothing_given_is_detectron2s_defaults(tmp_path):
    config = convert_config({}, tmp_path / 'x.py').config
    assert [base.rsplit('/', 1)[1] for base in config.pop('_base_')] == ['default_runtime.py']
    assert config.pop('model') == MODEL
    assert config == SCHEDULE


def test_the_defaults_of_every_part():
    """They count as soon as a YAML switches a part on."""
    config = model_config(
        dict(
            LABEL_D3PM=True,
            QUALITY_HEAD=True,
            QUALITY_SCORE_REWEIGHT=True,
            QUALITY_GUIDANCE_SCALE=0.5,
            GEO_FEAT=True,
            GEO_BIAS=True,
            GEO_BIAS_LEARNABLE_SCALE=True,
            ANISO_NOISE=True,
            GRAPH_TOPO_LOSS_WEIGHT=3.0,
            CLS_LOSS_TYPE='qfl',
            USE_FED_LOSS=True,
        )
    )
    stage = config['bbox_head']['stage']
    assert stage['feature_parts'] == [dict(type='LabelEmbedding', scale=0.1, relative_to_unk=False)]
    assert config['label_scheduler'] == dict(
        type='D3PMScheduler',
        kernel='mask',
        use_distribution=True,
        keep_schedule='sqrt_alphas_cumprod',
        keep_const=1.0,
        keep_power=1.0,
        keep_min=0.0,
    )
    assert stage['position_parts'] == [
        dict(
            type='GeometryFeature',
            scale=0.1,
            encoder='mlp',
            hidden_dim=64,
            use_log_wh=True,
            relative=False,
            relative_norm='softmax',
            include_iou=False,
            schedule=dict(type='linear', power=2.0, threshold=0),
        )
    ]
    assert stage['attention_parts'] == [
        dict(
            type='GeometryBias',
            mode='distance',
            scale=1.0,
            sigma=2.0,
            min_norm=0.0,
            hidden_dim=64,
            include_iou=False,
            use_log_wh=True,
            topk=0,
            learnable_heads=8,
            schedule=dict(type='constant', power=1.0, threshold=0),
        )
    ]
    quality = dict(type='QualityHead', hidden_dim=256, include_t=True, use_log_wh=True)
    assert stage['output_parts'] == [quality]
    assert config['test_cfg']['quality_power'] == 1.0
    assert config['sampler']['guidance'] == dict(
        type='QualityGuidance',
        scale=0.5,
        topk=50,
        score_weight=True,
        grad_norm='proposal',
        mode='final',
        t_threshold=0,
        langevin_steps=1,
        noise_scale=0.0,
        schedule=dict(type='constant', power=1.0),
    )
    criterion = config['criterion']
    assert criterion['loss_quality'] == dict(type='QualityLoss', loss_type='bce', loss_weight=1.0)
    assert criterion['loss_topology'] == dict(
        type='TopologyLoss', loss_weight=3.0, norm='row', iou_thr=0.1
    )
    assert criterion['loss_cls'] == dict(
        type='QualityFocalLoss', beta=2.0, use_sigmoid=True, loss_weight=2.0
    )
    assert criterion['federated'] == dict(type='FederatedClasses')
    assert config['box_codec']['noise_sigma'] == (1.0, 1.0, 1.0, 1.0)


def test_switches_between_kinds_of_parts():
    fixed = model_config(dict(GEO_BIAS=True))['bbox_head']['stage']['attention_parts'][0]
    assert fixed['learnable_heads'] == 0
    sigmas = {f'ANISO_NOISE_SIGMA_{side}': s for side, s in dict(XY=2.0, W=3.0, H=4.0).items()}
    codec = model_config(dict(ANISO_NOISE=True, **sigmas))['box_codec']
    assert codec['noise_sigma'] == (2.0, 2.0, 3.0, 4.0)
    # the state without diffusion is masked labels, whatever the kernel of the diffusion
    state = model_config(dict(LABEL_STATE=True, LABEL_D3PM_KERNEL='uniform'))['label_scheduler']
    assert (state['kernel'], state['use_distribution']) == ('mask', False)
    d3pm = dict(LABEL_D3PM=True, LABEL_D3PM_KERNEL='uniform', LABEL_D3PM_USE_DISTRIBUTION=False)
    state = model_config(d3pm)['label_scheduler']
    assert (state['kernel'], state['use_distribution']) == ('uniform', False)
    assert model_config(dict(USE_NMS=False))['test_cfg']['nms'] is None


UNSUPPORTED = {
    'MODEL.DiffusionDet.NUM_DYNAMIC': (2, 3),
    'MODEL.DiffusionDet.DROPOUT': (0.0, 0.1),
    'MODEL.DiffusionDet.DEEP_SUPERVISION': (True, False),
    'MODEL.DiffusionDet.USE_FOCAL': (True, False),
    'MODEL.DiffusionDet.NO_OBJECT_WEIGHT': (0.1, 0.2),
    'MODEL.MASK_ON': (False, True),
    'MODEL.RESNETS.OUT_FEATURES': (['res2', 'res3', 'res4', 'res5'], ['res2', 'res3', 'res4']),
    'MODEL.ROI_HEADS.IN_FEATURES': (('p2', 'p3', 'p4', 'p5'), ('p3', 'p4', 'p5', 'p6')),
    'MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION': (7, 14),
    'MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO': (2, 0),
    'DATALOADER.ASPECT_RATIO_GROUPING': (False, True),
    'TEST.AUG.ENABLED': (False, True),
    'TEST.DETECTIONS_PER_IMAGE': (100, 300),
    'MODEL_EMA.USE_EMA_WEIGHTS_FOR_EVAL_ONLY': (False, True),
    'CUDNN_BENCHMARK': (False, True),
    'VIS_PERIOD': (0, 5),
    'VERSION': (2, 1),
}


def test_what_cannot_be_converted_is_told_where_it_differs(tmp_path):
    for place in (0, 1):
        values = {name: both[place] for name, both in UNSUPPORTED.items()}
        found = convert_config({**COCO, **values}, tmp_path / 'x.py')
        assert set(found.unknown) == (set(UNSUPPORTED) if place else set())
    numbers = {
        name
        for name, option in OPTIONS.items()
        if option.section in ('fixed', 'unused') and not isinstance(option.default, str)
    }
    assert {name.removeprefix('MODEL.DiffusionDet.') for name in UNSUPPORTED} == {
        *numbers - {'MODEL.FPN.IN_FEATURES'}
    }


def resize(*scales):
    return dict(type='RandomChoiceResize', scales=list(scales), keep_ratio=True)


def test_data_of_detectron2s_defaults(tmp_path):
    config = convert_config(COCO, tmp_path / 'x.py').config
    assert [base.rsplit('_base_/', 1)[1] for base in config['_base_']] == [
        *('default_runtime.py', 'datasets/coco_detection.py')
    ]
    start = [
        dict(type='SeedAugmentation'),
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='RandomFlip', prob=0.5),
    ]
    workers = dict(num_workers=4, persistent_workers=True)
    pipeline = [*start, resize((1333, 800)), dict(type='PackDetInputs')]
    keep = dict(filter_empty_gt=True, min_size=1)
    dataset = dict(filter_cfg=keep, pipeline=pipeline)
    assert config['train_dataloader'] == dict(batch_size=16, **workers, dataset=dataset)
    test = config['test_dataloader']
    assert test == config['val_dataloader']
    assert {k: test[k] for k in workers} == workers
    scales = [t['scale'] for t in test['dataset']['pipeline'] if t['type'] == 'Resize']
    assert scales == [(1333, 800)]
    # crops, on half of the images, and a longest side that is the shorter one
    cropped = {**COCO, 'INPUT.CROP.ENABLED': True, 'INPUT.MIN_SIZE_TRAIN': 700}
    cropped.update({'INPUT.MAX_SIZE_TRAIN': 550, 'DATALOADER.NUM_WORKERS': 0})
    train = convert_config(cropped, tmp_path / 'x.py').config['train_dataloader']
    assert (train['num_workers'], train['persistent_workers']) == (0, False)
    crop = dict(
        type='RandomCrop',
        crop_type='relative_range',
        crop_size=(0.9, 0.9),
        allow_negative_crop=True,
    )
    final = resize((700, 550))
    some = resize((550, 400), (550, 500), (600, 550))
    assert train['dataset']['pipeline'][4] == dict(
        type='RandomChoice', transforms=[[final], [some, crop, final]]
    )


@pytest.mark.parametrize(
    'train, test',
    [
        (('coco_2017_train',), ('repro_10k_val',)),
        (('coco_2017_train', 'other'), ('coco_2017_val',)),
        (('mine', 'mine'), ('mine',)),
        (('mine',), ('other',)),
    ],
)
def test_data_sets_that_are_not_one(train, test, tmp_path, monkeypatch):
    """No base config has them: they are left to do, and nothing of data is written."""
    monkeypatch.setenv('EXTRA_COCO_DATASETS', 'mine,a.json,i')
    names = {'DATASETS.TRAIN': train, 'DATASETS.TEST': test}
    found = convert_config(names, tmp_path / 'x.py')
    assert set(found.unknown) == set(names) and 'train_dataloader' not in found.config
    assert 'batch_size=16' in found.notes[0]


def test_schedules(tmp_path):
    found = converted(
        tmp_path,
        SOLVER__WARMUP_ITERS=0,
        SOLVER__STEPS=(7, 9),
        TEST__EVAL_PERIOD=7,
        SOLVER__AMP__ENABLED=True,
        SOLVER__CLIP_GRADIENTS__ENABLED=True,
        MODEL_EMA__ENABLED=True,
        USE_FED_LOSS=True,
        GEO_FEAT_TRAIN_WARMUP_ITERS=5,
    ).config
    assert found['param_scheduler'] == [dict(STEPS, milestones=[7, 9])]
    assert found['train_cfg']['val_interval'] == 7
    wrapper = found['optim_wrapper']
    assert (wrapper['type'], wrapper['loss_scale']) == ('PartAmpOptimWrapper', 'dynamic')
    assert wrapper['clip_grad'] == dict(max_norm=1.0, norm_type=2.0)
    average, federated = found['custom_hooks']  # nothing of geometry, which is off
    assert average.pop('momentum') == pytest.approx(1 - 0.999)
    assert average == dict(type='EMAHook', ema_type='ForeachEMA', gamma=2000)
    assert federated == dict(type='FederatedFrequencyHook')
    geometry = converted(tmp_path, GEO_FEAT=True, GEO_FEAT_TRAIN_WARMUP_ITERS=5).config
    assert geometry['custom_hooks'] == [dict(type='GeometryWarmupHook', start=0, warmup=5)]
    assert 'custom_hooks' not in converted(tmp_path, GEO_FEAT=True).config


def test_a_teacher_alone_is_the_defaults_of_distillation(tmp_path):
    """An address is left as it is."""
    weights = 'https://x/teacher.pth'
    found = converted(tmp_path, SAMPLER_DISTILL_TEACHER_WEIGHTS=weights).config
    numbers = dict(student_steps=1, topk=100, box_weight=1.0, cls_weight=0.0)
    assert found['custom_hooks'] == [
        dict(type='SamplerDistillHook', teacher=dict(checkpoint=weights), **numbers)
    ]


@pytest.mark.parametrize('seed, randomness', [(-1, None), (0, dict(seed=0)), (3, dict(seed=3))])
def test_seed_zero_is_a_seed(seed, randomness, tmp_path):
    assert convert_config({'SEED': seed}, tmp_path / 'x.py').config.get('randomness') == randomness


def test_one_step_may_stand_without_brackets(tmp_path):
    """``STEPS: (2000)`` is a number to Python."""
    found = convert_config({'SOLVER.STEPS': 2000}, tmp_path / 'x.py').config
    assert found['param_scheduler'][1]['milestones'] == [2000]


@pytest.mark.parametrize(
    'weights, checkpoint',
    [
        ('detectron2://ImageNetPretrained/torchvision/R-101.pkl', 'resnet101-63fe2227.pth'),
        ('detectron2://ImageNetPretrained/MSRA/R-50.pkl', None),
        ('torchvision/R-152.pkl', None),
    ],
)
def test_imagenet_weights_are_those_of_torchvision(weights, checkpoint, tmp_path):
    found = convert_config({'MODEL.WEIGHTS': weights}, tmp_path / 'x.py')
    init = found.config['model']['backbone'].get('init_cfg')
    if checkpoint:
        address = f'https://download.pytorch.org/models/{checkpoint}'
        assert init == dict(type='Pretrained', checkpoint=address)
        assert 'MODEL.WEIGHTS' not in found.unknown
    else:
        assert init is None and found.unknown['MODEL.WEIGHTS'] == weights


@pytest.mark.parametrize(
    'name, value, message',
    [
        ('NUM_CLASSES', 1, ''),
        ('NUM_CLASSES', 0, 'must be at least 1'),
        ('NUM_CLASSES', True, 'must be a whole number'),
        ('NUM_CLASSES', 2.0, 'must be a whole number'),
        ('SOLVER.BASE_LR', 0, ''),
        ('SOLVER.BASE_LR', -0.1, 'must be at least 0'),
        ('SOLVER.BASE_LR', float('inf'), 'must be finite'),
        ('SOLVER.BASE_LR', True, 'must be a number'),
        ('SEED', -1, ''),
        ('SNR_SCALE', -2.0, ''),
        ('USE_NMS', 1, 'must be true or false'),
        ('OUTPUT_DIR', 3, 'must be text'),
        ('MODEL.PIXEL_MEAN', [0, -1, 0.5], ''),
        ('MODEL.PIXEL_STD', [0.5, 1, 1], ''),
        ('MODEL.PIXEL_STD', [1, 0, 1], 'must be greater than 0'),
        ('MODEL.PIXEL_STD', [1, 1], 'must be a list of 3 numbers'),
        ('INPUT.CROP.SIZE', (0, 0.5), ''),
        ('INPUT.CROP.SIZE', 0.5, 'must be a list'),
        ('INPUT.CROP.SIZE', ('a', 0.5), 'must be a list, each of it a number'),
        ('INPUT.MIN_SIZE_TRAIN', (1, 2, 3), ''),
        ('INPUT.MIN_SIZE_TRAIN', 1, ''),
        ('INPUT.MIN_SIZE_TRAIN', 0, 'must be at least 1'),
        ('INPUT.MIN_SIZE_TRAIN', (1, 0), 'must be at least 1'),
        ('INPUT.MIN_SIZE_TRAIN', True, 'must be a list of whole numbers'),
        ('INPUT.MIN_SIZE_TRAIN', 'a', 'must be a list'),
        ('DATASETS.TRAIN', (), ''),
        ('DATASETS.TRAIN', ['a'], ''),
        ('DATASETS.TRAIN', ['a', 3], 'must be a list, each of it text'),
        ('DATASETS.TRAIN', 3, 'must be a list'),
    ],
)
def test_values_of_options(name, value, message):
    default = OPTIONS[name].default
    long = name if '.' in name else f'MODEL.DiffusionDet.{name}'
    if not message:
        check_value(long, value, default)
        return
    with pytest.raises(ValueError) as told:
        check_value(long, value, default)
    assert str(told.value).startswith(f'{long} {message}, got')


def test_one_is_not_true():
    assert same([1, 2], (1, 2)) and same(1, 1.0) and same('a', 'a') and same(False, False)
    assert not same(1, True) and not same(False, 0) and not same([1], 1) and not same((1,), (1, 2))


def test_yaml_keys_twice_bases_and_merges(tmp_path):
    path = tmp_path / 'x.yaml'
    path.write_text('A: 1\nB: 2\nA: 3\n')
    with pytest.raises(ValueError, match='x.yaml, line 3 is not YAML .*A stands twice'):
        read_yaml(path)
    (tmp_path / 'one.yaml').write_text('A: 1\nB: 1\nC: 1\n')
    (tmp_path / 'two.yaml').write_text('B: 2\nC: 2\n')
    path.write_text('_BASE_: [one.yaml, two.yaml]\nC: "(3, 4)"\nD: "R-50"\n')
    assert read_yaml(path) == dict(A=1, B=2, C=(3, 4), D='R-50')
    path.write_text('X: &x {a: 1}\nY: &y {b: 2}\nZ:\n  <<: *x\n  <<: *y\n')
    assert read_yaml(path) == {'X.a': 1, 'Y.b': 2, 'Z.a': 1, 'Z.b': 2}
    for base in ('3', '[one.yaml, 3]', '{one.yaml: 1}'):
        path.write_text(f'_BASE_: {base}\n')
        with pytest.raises(ValueError, match='_BASE_ must be a file or a list'):
            read_yaml(path)
    path.write_text('A: &a {B: *a}\n')
    with pytest.raises(ValueError, match='inside of itself'):
        read_yaml(path)
