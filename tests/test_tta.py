"""Test-time augmentation: seeds of views, merging, rows."""

import pytest
import torch
from mmdet.structures.bbox import bbox_flip
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from tiny import (
    ROOT,
    batch,
    build,
    runner_config,
    shrink_model,
    tiny_config,
    write_coco,
)

from mmdiffdet.engine.test_time_aug import use_tta
from mmdiffdet.ledger import Ledger
from mmdiffdet.ledger.experiments import group
from mmdiffdet.ledger.reader import read_results
from mmdiffdet.models import DiffusionDetTTA
from mmdiffdet.registry import MODELS


@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    """Data, and a checkpoint whose scores are on both sides of 0.5."""
    folder = tmp_path_factory.mktemp('tta')
    torch.manual_seed(5)
    model = spread(build(tiny_config()))
    torch.save(dict(state_dict=model.state_dict(), meta=dict(seed=7)), folder / 'x.pth')
    return write_coco(folder / 'data'), folder / 'x.pth'


def spread(model):
    with torch.no_grad():
        for stage in model.bbox_head.head_series:
            stage.class_logits.weight.normal_(0, 0.2)
            stage.class_logits.bias.fill_(-0.3)
    return model.eval()


def tta_model(model, max_per_img=100):
    return DiffusionDetTTA(
        module=model,
        tta_cfg=ConfigDict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=max_per_img),
    )


def views(data, count=2):
    """The same image as several views; those from the second on are
    mirror images."""
    inputs, samples = [], []
    for v in range(count):
        inputs.append([i.flip(-1) if v else i for i in data['inputs']])
        samples.append([s.new() for s in data['data_samples']])
        for sample in samples[-1]:
            sample.set_metainfo(dict(flip=v > 0, flip_direction='horizontal' if v else None))
    return dict(inputs=inputs, data_samples=samples)


def test_each_view_has_its_noise():
    model = spread(build(tiny_config()))
    data = batch()
    seeds = {}
    plain = model.test_variants

    def spy(data, variants, measure):
        found = plain(data, variants, measure)
        for sample in found[0]:
            seeds[sample.img_id] = sample.pred_instances
        return found

    expected = model.test_step(data)
    model.test_variants = spy
    merged = tta_model(model).test_step(views(data, 3))
    assert list(seeds) == [0, 1, '0/view 1', '1/view 1', '0/view 2', '1/view 2']
    for i, sample in enumerate(expected):
        assert torch.equal(seeds[i].bboxes, sample.pred_instances.bboxes)
    # the same mirror image, other noise
    assert not torch.equal(seeds['0/view 1'].scores[:5], seeds['0/view 2'].scores[:5])
    assert [s.img_id for s in merged] == [0, 1]
    # an image alone is detected as in its batch
    (alone,) = tta_model(model).test_step(views({k: v[1:] for k, v in data.items()}, 3))
    for key in ('bboxes', 'scores', 'labels'):
        assert torch.equal(alone.pred_instances[key], merged[1].pred_instances[key])


def test_boxes_of_mirror_images_are_mirrored_back():
    model = spread(build(tiny_config()))
    data = batch()
    found = {}
    plain = model.test_variants

    def spy(data, *args):
        results = plain(data, *args)
        found[len(found)] = results[0][0].pred_instances.bboxes
        return results

    model.test_variants = spy
    merged = tta_model(model, 30).test_step(views(data))[0].pred_instances
    pool = torch.cat([found[0], bbox_flip(found[1], (64, 96))])
    origin = torch.cdist(merged.bboxes, pool)
    assert (origin.min(1).values < 1e-4).all()
    first = origin.argmin(1) < len(found[0])
    assert first.any() and not first.all()
    assert len(merged) <= 30
    assert (merged.scores[1:] <= merged.scores[:-1]).all()
    with pytest.raises(ValueError, match='makes no views.*TestTimeAug'):
        tta_model(model).test_step(data)


def run(lab, work_dir, tta, hooks=(), **test_cfg):
    data, checkpoint = lab
    cfg = runner_config(data, work_dir)
    cfg.load_from = str(checkpoint)
    cfg.test_cfg.update(test_cfg)
    cfg.custom_hooks.extend(hooks)
    if tta:
        use_tta(cfg)
    cfg.experiment_name = f'{work_dir}{tta}'.replace('/', '_')
    runner = Runner.from_cfg(cfg)
    return runner, runner.test()


def test_rows_tell_that_views_were_merged(lab, tmp_path):
    path = tmp_path / 'rows.tsv'
    hook = dict(type='LedgerHook', path=str(path), exp_name='mine')
    ways = dict(eval_seeds=[0, 1], variants=[dict(sampling_timesteps=s) for s in (1, 2)])
    run(lab, tmp_path, False, [hook], **ways)
    runner, metrics = run(lab, tmp_path, True, [hook], **ways)
    assert len({k.split('/')[0] for k in metrics}) == 4
    # six views of 64x48: three scales, each with its mirror image
    shapes = [[i.shape[-2:] for i in view] for view in next(iter(runner.test_dataloader))['inputs']]
    assert len(shapes) == 6
    assert len({tuple(view[0]) for view in shapes}) == 3
    assert shapes[0][0] == (240, 320)  # as without augmentation
    rows = Ledger(path).read()
    assert [r.exp_name for r in rows] == ['mine'] * 4 + ['mine+tta'] * 4
    plain, merged = rows[:4], rows[4:]
    assert len({r.config_sha256 for r in rows}) == 2
    # never averaged, even under one name
    text = path.read_text().replace('+tta', '')
    (tmp_path / 'same_name.tsv').write_text(text)
    found = group(read_results([tmp_path / 'same_name.tsv']).runs)
    assert len(found) == 4 and all(len(e.runs) == 2 for e in found)
    assert merged[0].seconds_per_image > 2 * plain[0].seconds_per_image
    # neither is the augmented test taken for one that is there
    runner, _ = run(lab, tmp_path, True, [hook], eval_seeds=[0])
    assert not runner.test_loop.tested


def test_a_detector_that_does_not_sample():
    cfg = Config.fromfile(ROOT / 'configs/detr/detr_demo.py').model
    init_default_scope('mmdiffdet')
    shrink_model(cfg)
    model = MODELS.build(cfg).eval()
    with torch.no_grad():
        found, _ = tta_model(model).test_step(views(batch()))
    assert 0 < len(found.pred_instances) <= 100


def test_pipelines_without_scale(lab, tmp_path):
    cfg = runner_config(lab[0], tmp_path)
    del cfg.test_dataloader.dataset.pipeline[1]
    with pytest.raises(ValueError, match='no Resize.*tta_pipeline'):
        use_tta(cfg)
    cfg.tta_pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='TestTimeAug', transforms=[[dict(type='PackDetInputs')]]),
    ]
    use_tta(cfg)
    assert cfg.test_dataloader.dataset.pipeline == cfg.tta_pipeline
