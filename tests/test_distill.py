"""Teachers, distillers and their hooks."""

import copy

import pytest
import torch
from mmengine.runner import Runner
from tiny import (
    batch,
    build,
    losses_of,
    runner_config,
    tiny_config,
    write_coco,
)

from mmdiffdet.distill import (
    ConsistencyDistiller,
    ConsistencyDistillHook,
    SamplerDistiller,
    SamplerDistillHook,
    Teacher,
)
from mmdiffdet.distill.teacher import cast_matrices
from mmdiffdet.engine import load_checkpoint_file
from mmdiffdet.engine.precision import in_precision
from mmdiffdet.fast import disabled
from mmdiffdet.ledger import sha256_of_file

D3PM = dict(parts=['d3pm'])


def lively(seed=0, **options):
    """A model whose box deltas are not all but zero."""
    model = build(tiny_config(**options), seed=seed)
    torch.manual_seed(seed + 50)
    with torch.no_grad():
        for stage in model.bbox_head.head_series:
            stage.class_logits.weight.normal_(0, 0.5)
    return model


@pytest.fixture
def pair():
    return lively(0).train(), lively(1)


def test_nothing_to_learn_from_oneself():
    student = lively(0, **D3PM).train()
    teacher = Teacher(lively(0, **D3PM))
    for distiller in (
        SamplerDistiller(teacher, teacher_steps=1, cls_weight=1.0),
        SamplerDistiller(teacher, teacher_steps=2, student_steps=2),
    ):
        student.distiller = distiller
        losses = losses_of(student, batch())
        for name in losses:
            if 'distill' in name:
                assert losses[name] < 1e-5


def test_sampler_distillation_is_the_mean_distance(pair):
    """Recomputed from the definition, with topk and temperature."""
    student, other = pair
    other.sampler.scheduler.set_timesteps(3)
    seen = []
    distiller = SamplerDistiller(
        Teacher(other), teacher_steps=3, topk=5, box_weight=2.0, cls_weight=3.0, temperature=2.0
    )
    compare = distiller.losses

    def spy(mine, target, sizes):
        seen.extend([mine, target])
        return compare(mine, target, sizes)

    distiller.losses = spy
    student.distiller = distiller
    found = losses_of(student, batch())
    mine, target = seen
    boxes, cls = 0.0, 0.0
    for i in range(2):
        best = target.logits[i].sigmoid().amax(-1).topk(5)[1]
        scale = torch.tensor([96.0, 64.0, 96.0, 64.0])
        boxes += ((mine.boxes[i, best] - target.boxes[i, best]) / scale).abs().mean() / 2
        cls += (
            (mine.logits[i, best] / 2).sigmoid() - (target.logits[i, best] / 2).sigmoid()
        ).square().mean() / 2
    assert found['loss_sampler_distill_box'].item() == pytest.approx(2 * boxes.item(), rel=1e-5)
    assert found['loss_sampler_distill_cls'].item() == pytest.approx(3 * cls.item(), rel=1e-4)


def test_the_teacher_starts_from_the_same_noise(pair):
    student, other = pair
    starts = []
    for model in pair:
        plain = model.box_codec.decode

        def decode(x, sizes, plain=plain):
            starts.append(x)
            return plain(x, sizes)

        model.box_codec.decode = decode
    student.distiller = SamplerDistiller(Teacher(other), teacher_steps=2)
    losses_of(student, batch())
    # corruption of the student, two steps of the teacher, the student's one
    assert len(starts) == 4
    assert torch.equal(starts[1], starts[3])
    assert not torch.equal(starts[1], starts[2])


@pytest.mark.parametrize('student_steps', [1, 3])
@pytest.mark.parametrize('options', [{}, D3PM])
def test_gradients_reach_the_student_alone(student_steps, options):
    student, other = lively(0, **options).train(), lively(1, **options)
    before = {k: v.clone() for k, v in other.state_dict().items()}
    student.distiller = SamplerDistiller(
        Teacher(other), teacher_steps=2, student_steps=student_steps
    )
    losses = losses_of(student, batch())
    losses['loss_sampler_distill_box'].backward()
    assert student.bbox_head.head_series[0].linear1.weight.grad.abs().sum() > 0
    assert student.backbone.conv1.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in other.parameters())
    for key, value in other.state_dict().items():
        assert torch.equal(before[key], value)


def test_consistency_is_the_distance_on_the_same_boxes(pair):
    student, other = pair
    student.distiller = ConsistencyDistiller(Teacher(other), cls_weight=1.0)
    losses = losses_of(student, batch())
    assert losses['loss_consistency_box'] > 0
    assert losses['loss_consistency_cls'] > 0
    student.distiller = ConsistencyDistiller(Teacher(lively(0)))
    losses = losses_of(student, batch())
    assert losses['loss_consistency_box'] < 1e-5
    assert 'loss_consistency_cls' not in losses


def test_ordinary_losses_and_draws_stay(pair):
    student, other = pair
    torch.manual_seed(3)
    plain = losses_of(student, batch())
    after = torch.rand(3)
    student.distiller = SamplerDistiller(Teacher(other), teacher_steps=2)
    torch.manual_seed(3)
    both = losses_of(student, batch())
    assert torch.equal(torch.rand(3), after)
    for name, value in plain.items():
        assert torch.equal(both[name], value)


def test_a_teacher_may_be_another_model(pair):
    student, _ = pair
    other = lively(1, parts=['d3pm_quality'], bbox_head=dict(num_stages=3))
    student.distiller = SamplerDistiller(Teacher(other), teacher_steps=2)
    assert losses_of(student, batch())['loss_sampler_distill_box'] > 0
    student.distiller = ConsistencyDistiller(Teacher(lively(1, bbox_head=dict(num_stages=3))))
    assert losses_of(student, batch())['loss_consistency_box'] > 0


def test_features_are_shared_only_if_frozen_and_equal():
    student = lively(0).train()
    teacher = Teacher(lively(0))
    teacher.compare(student)
    assert not teacher.shares_backbone  # it will be trained
    student.freeze_backbone()
    teacher.compare(student)
    assert teacher.shares_backbone
    with torch.no_grad():
        teacher.model.backbone.bn1.running_mean += 1e-3
    teacher.compare(student)
    assert not teacher.shares_backbone


def test_sharing_changes_nothing_but_the_work():
    found = []
    for share in (False, True):
        student = lively(0).train()
        student.freeze_backbone()
        other = lively(0)
        torch.manual_seed(9)
        with torch.no_grad():  # another neck and head
            other.neck.fpn_convs[0].conv.weight.normal_(0, 0.1)
        teacher = Teacher(other)
        teacher.shares_backbone = share
        calls = []
        other.backbone.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        student.distiller = SamplerDistiller(teacher, teacher_steps=2)
        torch.manual_seed(4)
        found.append(losses_of(student, batch())['loss_sampler_distill_box'])
        assert len(calls) == (0 if share else 1)
    assert torch.equal(*found)


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
def test_shared_backbone_under_amp(precision):
    student = lively(0).train()
    student.freeze_backbone()
    teacher = Teacher(lively(0), precision)
    teacher.compare(student)
    assert teacher.shares_backbone
    student.distiller = SamplerDistiller(teacher, teacher_steps=2)
    with torch.autocast('cpu', torch.bfloat16):
        losses = losses_of(student, batch())
    assert losses['loss_sampler_distill_box'].isfinite()


def test_what_cannot_be_compared():
    teacher = Teacher(lively(0, bbox_head=dict(num_classes=5)))
    with pytest.raises(ValueError, match='num_classes is 5'):
        teacher.compare(lively(0))
    student = lively(0).train()
    student.distiller = ConsistencyDistiller(Teacher(lively(0, **D3PM)))
    with pytest.raises(ValueError, match='no label_scheduler'):
        losses_of(student, batch())


def test_bfloat16_teacher(pair):
    student, other = pair
    found = []
    for precision in ('fp32', 'bf16'):
        torch.manual_seed(4)
        student.distiller = SamplerDistiller(Teacher(other, precision), teacher_steps=1)
        found.append(losses_of(student, batch())['loss_sampler_distill_box'])
    assert found[0] != found[1]
    assert found[1].item() == pytest.approx(found[0].item(), rel=0.1)


@pytest.mark.parametrize('parts', [[], ['geo_bias_knn', 'geo_feat', 'd3pm_quality']])
def test_matrices_in_reduced_precision_change_nothing(parts):
    """Autocast would cast them to the same at each call."""
    model = build(tiny_config(parts)).eval()
    held = copy.deepcopy(model)
    cast_matrices(held.bbox_head, torch.bfloat16)
    assert held.bbox_head.head_series[0].inst_interact.dynamic_layer.weight.element_size() == 2
    found = []
    for one in (model, held):
        with torch.no_grad(), disabled(), in_precision(one, 'bf16'):
            found.append([s.pred_instances for s in one.test_step(batch())])
    for plain, cast in zip(*found):
        assert len(plain) and torch.equal(plain.bboxes, cast.bboxes)
        assert torch.equal(plain.scores, cast.scores)


@pytest.mark.parametrize(
    'bad, message',
    [
        (dict(teacher_steps=0), 'from 1 to 1000'),
        (dict(student_steps=1001), 'from 1 to 1000'),
        (dict(eta=-1), 'eta'),
        (dict(box_weight=-1), 'box_weight'),
        (dict(temperature=0), 'temperature'),
        (dict(topk=-1), 'topk'),
    ],
)
def test_bad_options(pair, bad, message):
    with pytest.raises(ValueError, match=message):
        SamplerDistiller(Teacher(pair[1]), **bad)


def test_bad_teachers(tmp_path):
    with pytest.raises(ValueError, match="'fp32', 'bf16'"):
        Teacher(lively(0), 'int8')
    with pytest.raises(FileNotFoundError, match='nowhere.pth does not exist'):
        SamplerDistillHook(dict(checkpoint=str(tmp_path / 'nowhere.pth')))
    with pytest.raises(FileNotFoundError, match='python tools/train.py configs/demo/demo.py'):
        ConsistencyDistillHook(dict(checkpoint='work_dirs/demo/no.pth'))
    with pytest.raises(ValueError, match="unknown .'checkpoints'"):
        SamplerDistillHook(dict(checkpoints='x'))
    torch.save(lively(0, bbox_head=dict(num_stages=3)).state_dict(), tmp_path / 'deep.pth')
    with pytest.raises(ValueError, match='another model.*left over'):
        Teacher.load(str(tmp_path / 'deep.pth'), tiny_config())


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return write_coco(tmp_path_factory.mktemp('coco'))


def distil(data, work_dir, teacher, **changes):
    cfg = runner_config(data, work_dir)
    cfg.experiment_name = str(work_dir).replace('/', '_')
    cfg.custom_hooks.append(
        dict(type='SamplerDistillHook', teacher=dict(checkpoint=str(teacher)), teacher_steps=2)
    )
    cfg.merge_from_dict(changes)
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def test_training_with_the_hook(data, tmp_path):
    """The teacher is in no checkpoint, and a resumed run is the same."""
    teacher = tmp_path / 'teacher.pth'
    torch.save(lively(1).state_dict(), teacher)
    whole = distil(data, tmp_path / 'whole', teacher, **{'train_cfg.max_iters': 4})
    assert whole.message_hub.log_scalars['train/loss_sampler_distill_box'].current() > 0
    assert whole.model.distiller is None
    distil(data, tmp_path / 'half', teacher)
    distil(data, tmp_path / 'half', teacher, **{'train_cfg.max_iters': 4, 'resume': True})
    checkpoints = [
        load_checkpoint_file(tmp_path / f'{name}/iter_4.pth') for name in ('whole', 'half')
    ]
    names = set(build(tiny_config()).state_dict())
    for checkpoint in checkpoints:
        assert set(checkpoint['state_dict']) == names
        assert checkpoint['meta']['teacher']['sha256'] == sha256_of_file(teacher)
        trained = sum(len(g['params']) for g in checkpoint['optimizer']['param_groups'])
        assert trained <= len(list(build(tiny_config()).parameters()))
    for key, value in checkpoints[0]['state_dict'].items():
        assert torch.equal(checkpoints[1]['state_dict'][key], value), key


def test_the_average_is_of_the_student_alone(data, tmp_path):
    torch.save(lively(1).state_dict(), tmp_path / 'teacher.pth')
    cfg = runner_config(data, tmp_path)
    cfg.custom_hooks += [
        dict(type='EMAHook', ema_type='ForeachEMA', momentum=0.001, gamma=2000),
        dict(type='ConsistencyDistillHook', teacher=dict(checkpoint=str(tmp_path / 'teacher.pth'))),
    ]
    cfg.experiment_name = 'ema'
    Runner.from_cfg(cfg).train()
    saved = load_checkpoint_file(tmp_path / 'iter_2.pth')
    assert len(saved['ema_state_dict']) == len(saved['state_dict']) + 1
