"""Images whose labels are not known: what they add to a training, and what not."""

import json

import pytest
import torch
from mmengine.runner import Runner
from test_distill import lively
from tiny import batch, losses_of, runner_config, write_coco

from mmdiffdet.datasets import CocoDataset
from mmdiffdet.datasets.box_prior import box_prior
from mmdiffdet.datasets.counts import objects_per_image
from mmdiffdet.distill import SetDistiller, Teacher


def half_labelled(labelled=(True, False), seed=0):
    data = batch(seed=seed)
    for sample, known in zip(data['data_samples'], labelled):
        sample.set_metainfo(dict(labelled=known))
    return data


def student_of(parts=()):
    student = lively(0, parts=parts).train()
    student.distiller = SetDistiller(Teacher(lively(1)), teacher_steps=2, score_thr=0.0)
    return student


def loss_of(student, data):
    torch.manual_seed(0)
    return {k: v for k, v in losses_of(student, data).items() if 'loss' in k}


@pytest.mark.parametrize('parts', [[], ['quality', 'topo']], ids=str)
def test_an_image_without_labels_adds_what_the_teacher_says(parts, monkeypatch):
    """The criterion's losses are those of the labelled image's proposals alone."""
    student, data = student_of(parts), half_labelled()
    outputs, forward = [], type(student.criterion).forward
    monkeypatch.setattr(
        type(student.criterion),
        'forward',
        lambda self, output, *rest, **named: (
            outputs.append((output, *rest)) or forward(self, output, *rest, **named)
        ),
    )
    found = loss_of(student, data)
    (output, truth, sizes), (_, taught, _) = outputs
    assert len(truth[0]) == 3 and len(truth[1]) == 0 and len(taught[1]) > 0

    def first(value):
        return value[:, :1]

    output.logits, output.boxes = first(output.logits), first(output.boxes)
    output.extras = {name: first(value) for name, value in output.extras.items()}
    output.attention = None if output.attention is None else output.attention[:1]
    alone = forward(student.criterion, output, truth[:1], sizes[:1])
    for name, value in alone.items():
        torch.testing.assert_close(found[name], value)
    assert alone['loss_cls'] > 0 and alone['loss_giou'] > 0
    # what the teacher finds counts as it does in an image with labels
    of_teacher = [name for name in found if 'set_distill' in name]
    assert set(found) == {*alone, *of_teacher} and len(of_teacher) == len(alone)


def test_labels_that_are_not_known_are_not_read():
    """Whatever boxes come with them, and an empty image is another matter."""
    student = student_of()
    found = loss_of(student, half_labelled())
    data = half_labelled()
    truth = data['data_samples'][1].gt_instances
    truth.bboxes, truth.labels = truth.bboxes + 3, 2 - truth.labels
    other = loss_of(student, data)
    assert all(torch.equal(other[name], value) for name, value in found.items())
    data = half_labelled((True, True))
    data['data_samples'][1].gt_instances = truth[:0]
    empty = loss_of(student, data)
    assert empty['loss_cls'] > found['loss_cls']  # all its proposals are background
    assert torch.equal(empty['loss_set_distill_cls'], found['loss_set_distill_cls'])


def test_where_all_are_labelled_nothing_is_new():
    student = student_of()
    found, plain = loss_of(student, half_labelled((True, True))), loss_of(student, batch())
    assert found.keys() == plain.keys()
    assert all(torch.equal(found[name], value) for name, value in plain.items())


def test_a_batch_without_any_label():
    """Zeros of the same names, and gradients, so that processes stay in step."""
    student = student_of()
    found = loss_of(student, half_labelled((False, False)))
    assert found.keys() == loss_of(student, batch()).keys()
    assert all(value == 0 for name, value in found.items() if 'set_distill' not in name)
    assert found['loss_set_distill_cls'] > 0
    student.distiller = None
    total, _ = student.parse_losses(losses_of(student, half_labelled((False, False))))
    total.backward()
    assert total == 0 and not any(p.grad.any() for p in student.bbox_head.parameters())


def dataset(root, **options):
    pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)]
    return CocoDataset(
        data_root=str(root),
        ann_file='train.json',
        data_prefix=dict(img='images/'),
        metainfo=dict(classes=('red', 'green', 'blue')),
        pipeline=[*pipeline, dict(type='PackDetInputs')],
        **options,
    )


def test_the_data_set_forgets_labels(tmp_path):
    root = write_coco(tmp_path, 10)
    few = dataset(root, labelled=0.3)
    known = [few[i]['data_samples'].labelled for i in range(10)]
    assert sum(known) == 3
    assert objects_per_image(few) == [int(k) for k in known]
    assert [len(few[i]['data_samples'].gt_instances) for i in range(10)] == objects_per_image(few)
    alone = dataset(root, labelled=3, unlabelled='drop')
    assert len(alone) == 3 and all(alone[i]['data_samples'].labelled for i in range(3))
    ids = [few[i]['data_samples'].img_id for i in range(10) if known[i]]
    assert [alone[i]['data_samples'].img_id for i in range(3)] == ids
    often = dataset(root, labelled=3, labelled_repeats=4)
    assert sorted(objects_per_image(often)) == [0] * 7 + [1] * 12
    # of one seed few are among more, another seed takes others
    more = dataset(root, labelled=6, unlabelled='drop')
    assert set(ids) < {more[i]['data_samples'].img_id for i in range(6)}
    others = [dataset(root, labelled=3, labelled_seed=s, unlabelled='drop') for s in range(1, 4)]
    assert any([o[i]['data_samples'].img_id for i in range(3)] != ids for o in others)
    assert 'labelled' not in dataset(root)[0]['data_samples']
    # a prior is one of the boxes that are known
    content = json.loads((root / 'train.json').read_text())
    config = dict(
        type='CocoDataset',
        data_root=str(root),
        ann_file='train.json',
        data_prefix=dict(img='images/'),
        metainfo=dict(classes=('red', 'green', 'blue')),
        labelled=0.3,
    )
    for a in content['annotations']:
        a['bbox'][2:] = [10 + a['id'], 10 + a['id']]
    (root / 'train.json').write_text(json.dumps(content))
    centres = [
        (a['bbox'][0] + a['bbox'][2] / 2) / 64
        for a in content['annotations']
        if a['image_id'] in ids
    ]
    mean, _ = box_prior(config, 2.0)
    assert mean[0] == pytest.approx(sum((2 * c - 1) * 2 for c in centres) / 3)


@pytest.mark.parametrize(
    ('options', 'match'),
    [
        (dict(labelled=0), 'labelled must be'),
        (dict(labelled=-1), 'labelled must be'),
        (dict(labelled=float('nan')), 'labelled must be'),
        (dict(labelled=True), 'labelled must be'),
        (dict(labelled=7), 'there are 6 images'),
        (dict(labelled=1.5), 'whole number'),
        (dict(labelled=2, unlabelled='hide'), "'keep' or 'drop'"),
        (dict(labelled=2, labelled_repeats=0), 'at least 1'),
        (dict(labelled=2, labelled_repeats=True), 'labelled_repeats must be'),
        (dict(unlabelled='drop'), 'do nothing without labelled'),
        (dict(labelled_seed=1), 'do nothing without labelled'),
        (dict(labelled_repeats=2), 'do nothing without labelled'),
        (dict(labelled=2, test_mode=True), 'is for training'),
    ],
)
def test_options_that_make_no_sense(options, match, tmp_path):
    with pytest.raises(ValueError, match=match):
        dataset(write_coco(tmp_path), **options)


@pytest.mark.parametrize(
    ('labelled', 'count'), [(6, 6), (1, 1), (0.01, 1), (0.25, 2), (0.4, 2), (0.6, 4), (0.99, 6)]
)
def test_numbers_and_shares_of_six_images(labelled, count, tmp_path):
    """A share is rounded, to one image at least; 1 is a number."""
    assert sum(objects_per_image(dataset(write_coco(tmp_path), labelled=labelled))) == count


def test_images_cannot_be_mixed(tmp_path):
    few = dataset(write_coco(tmp_path), labelled=2)
    few.pipeline.transforms.pop()
    with pytest.raises(ValueError, match='PackDetInputs'):
        few[0]


def test_a_student_trains_with_few_labels(tmp_path):
    """From the config to the end, the metainfo all the way."""
    cfg = runner_config(write_coco(tmp_path / 'data'), tmp_path / 'work')
    cfg.train_dataloader.dataset.labelled = 1
    torch.save(lively(1).state_dict(), tmp_path / 'teacher.pth')
    teacher = dict(checkpoint=str(tmp_path / 'teacher.pth'))
    cfg.custom_hooks = [
        dict(type='SetDistillHook', teacher=teacher, teacher_steps=1, score_thr=0.02)
    ]
    cfg.train_cfg.max_iters = 3
    runner = Runner.from_cfg(cfg)
    seen, loss = [], type(runner.model).loss
    runner.model.loss = lambda inputs, samples: (
        seen.extend(s.labelled for s in samples) or loss(runner.model, inputs, samples)
    )
    runner.train()
    assert len(seen) == 6 and sum(seen) == 1
