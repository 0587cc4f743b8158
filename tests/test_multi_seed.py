"""One pass for many seeds, and the rows that it leaves."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from tiny import (
    ROOT,
    build,
    runner_config,
    shrink_model,
    tiny_config,
    write_coco,
)

from mmdiffdet.engine.stopwatch import Stopwatch, device_name
from mmdiffdet.engine.test_case import experiment_of
from mmdiffdet.evaluation import CocoMetric
from mmdiffdet.ledger import Ledger, sha256_of_file
from mmdiffdet.ledger.hashing import sha256s_of_tests


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return write_coco(tmp_path_factory.mktemp('coco'))


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """Of a training with seed 7, with scores on both sides of 0.5."""
    model = build(tiny_config())
    torch.manual_seed(5)
    with torch.no_grad():
        for stage in model.bbox_head.head_series:
            stage.class_logits.weight.normal_(0, 0.2)
            stage.class_logits.bias.fill_(-0.3)
    path = tmp_path_factory.mktemp('runs_seed7') / 'iter_2.pth'
    torch.save(dict(state_dict=model.state_dict(), meta=dict(seed=7)), path)
    return path


def runner(data, checkpoint, work_dir, hooks=(), **test_cfg):
    cfg = runner_config(data, work_dir)
    cfg.load_from = str(checkpoint)
    cfg.test_cfg.update(test_cfg)
    cfg.custom_hooks.extend(hooks)
    cfg.experiment_name = str(work_dir).replace('/', '_')
    return Runner.from_cfg(cfg)


def collect(runner):
    """Test and keep each case's detections."""
    kept = {}
    loop = runner.test_loop
    plain = loop._evaluator_of

    def spy(case):
        evaluator = plain(case)
        process = evaluator.process

        def keep(data_samples, data_batch):
            for sample in data_samples:
                kept[case.name, sample.img_id] = sample.pred_instances
            process(data_samples=data_samples, data_batch=data_batch)

        evaluator.process = keep
        return evaluator

    loop._evaluator_of = spy
    metrics = runner.test()
    return kept, metrics


VARIANTS = [
    dict(sampling_timesteps=1),
    dict(sampling_timesteps=3),
    dict(sampling_timesteps=2, renewal=None, scheduler=dict(type='UniPCMultistepScheduler')),
]


def test_each_case_is_the_test_it_would_be_alone(data, checkpoint, tmp_path):
    together, metrics = collect(
        runner(data, checkpoint, tmp_path, eval_seeds=[0, 3], variants=VARIANTS)
    )
    assert len(together) == 6 * 6
    assert len({k.split('/')[0] for k in metrics}) == 6
    for seed in (0, 3):
        for variant in VARIANTS:
            alone, metric = collect(
                runner(data, checkpoint, tmp_path, eval_seeds=[seed], variants=[variant])
            )
            for key, found in alone.items():
                other = together[
                    key
                    if 'variant' not in key[0]
                    else (key[0].replace('variant0', 'variant2'), key[1])
                ]
                assert len(found) > 0
                for field in ('bboxes', 'scores', 'labels'):
                    assert torch.equal(found[field], other[field])
            assert 'coco/bbox_mAP' in metric
    seeds = [together[f'seed{s}_step1', 0].scores for s in (0, 3)]
    assert not torch.equal(seeds[0][:5], seeds[1][:5])


def test_the_backbone_runs_once(data, checkpoint, tmp_path):
    run = runner(data, checkpoint, tmp_path, eval_seeds=range(4))
    calls = []
    run.model.backbone.register_forward_hook(lambda *_: calls.append(1))
    run.test()
    assert len(calls) == 6  # images


@pytest.mark.parametrize('size', [1, 8])
def test_the_batch_does_not_matter(data, checkpoint, tmp_path, size):
    expected, _ = collect(runner(data, checkpoint, tmp_path, variants=VARIANTS[1:2]))
    run = runner(data, checkpoint, tmp_path, variants=VARIANTS[1:2])
    run.test_loop.dataloader = Runner.build_dataloader(
        dict(copy.deepcopy(run.cfg.test_dataloader), batch_size=size)
    )
    found, _ = collect(run)
    assert found.keys() == expected.keys()
    for key, instances in expected.items():
        assert torch.equal(found[key].bboxes, instances.bboxes)
        assert torch.equal(found[key].scores, instances.scores)


def ledger_hook(path, **kwargs):
    return dict(type='LedgerHook', path=str(path), **kwargs)


def test_rows(data, checkpoint, tmp_path):
    path = tmp_path / 'ledger.tsv'
    run = runner(
        data, checkpoint, tmp_path, [ledger_hook(path)], eval_seeds=[0, 1], variants=VARIANTS[:2]
    )
    metrics = run.test()
    rows = Ledger(path).read()
    assert [(r.sample_step, r.eval_seed) for r in rows] == [(1, 0), (1, 1), (3, 0), (3, 1)]
    for row in rows:
        name = f'seed{row.eval_seed}_step{row.sample_step}'
        assert row.AP == 100 * metrics[f'{name}/coco/bbox_mAP']
        assert row.APl is None  # no large object
        assert row.train_seed == 7
        assert row.checkpoint_sha256 == sha256_of_file(checkpoint)
        assert row.annotation_sha256 == sha256_of_file(data / 'train.json')
        assert row.scheduler == 'DDIMScheduler' and row.eta == 1
        assert row.images_per_second == pytest.approx(1 / row.seconds_per_image)
        assert run.work_dir and row.out_dir.startswith(run.work_dir)
    dumped = sha256s_of_tests(Path(rows[0].out_dir, 'config.py').read_text())
    assert {r.config_sha256 for r in rows} == set(dumped[::2]) and len(dumped) == 4
    assert rows[2].seconds_per_image > rows[0].seconds_per_image


def test_a_gpus_batches_are_another_config_that_freeze_knows(
    data, checkpoint, tmp_path, monkeypatch
):
    hook = 'mmdiffdet.engine.ledger_hook.images_per_pass'
    monkeypatch.setattr(hook, lambda runner, loader: loader.batch_size)
    runner(data, checkpoint, tmp_path, [ledger_hook(tmp_path / 'l.tsv')]).test()
    (row,) = Ledger(tmp_path / 'l.tsv').read()
    alone, together = sha256s_of_tests(Path(row.out_dir, 'config.py').read_text())
    assert row.config_sha256 == together != alone


def test_a_row_that_is_there_is_not_tested_again(data, checkpoint, tmp_path):
    path = tmp_path / 'ledger.tsv'
    first = runner(data, checkpoint, tmp_path, [ledger_hook(path)]).test()
    run = runner(data, checkpoint, tmp_path, [ledger_hook(path)], eval_seeds=[0, 1])
    calls = []
    run.model.backbone.register_forward_hook(lambda *_: calls.append(1))
    metrics = run.test()
    assert len(run.test_loop.tested) == 1 and len(calls) == 6
    assert metrics['seed0_step1/coco/bbox_mAP'] == pytest.approx(first['coco/bbox_mAP'], abs=1e-12)
    rows = Ledger(path).read()
    Ledger(path).append([replace(rows[0], AP=12.5, APs=None)], force=True)
    before = path.read_text()
    run = runner(data, checkpoint, tmp_path, [ledger_hook(path)], eval_seeds=[0, 1])
    run.model.backbone.register_forward_hook(lambda *_: 1 / 0)
    metrics = run.test()
    assert path.read_text() == before
    # as COCO's evaluation has it: from 0 to 1, and -1 for what there is not
    assert metrics['seed0_step1/coco/bbox_mAP'] == 0.125
    assert metrics['seed0_step1/coco/bbox_mAP_s'] == -1
    Ledger(path).append([rows[0]], force=True)
    assert list(run.test_loop.metrics) == [case.name for case in run.test_loop.cases]
    # not the same: another precision; again on purpose: force
    runner(data, checkpoint, tmp_path, [ledger_hook(path)], precision='bf16').test()
    assert [r.precision for r in Ledger(path).read()] == ['fp32', 'fp32', 'bf16']
    runner(data, checkpoint, tmp_path, [ledger_hook(path, force=True)]).test()
    assert len(Ledger(path).read()) == 3


@pytest.mark.parametrize(
    'where, options',
    [
        ('evaluator', dict(iou_thrs=[0.5])),
        ('evaluator', dict(proposal_nums=(1, 100, 300))),
        ('dataset', dict(indices=3)),
    ],
)
def test_what_changes_ap_makes_another_row(data, checkpoint, tmp_path, where, options):
    path = tmp_path / 'ledger.tsv'
    runner(data, checkpoint, tmp_path, [ledger_hook(path)]).test()
    cfg = runner(data, checkpoint, tmp_path, [ledger_hook(path)]).cfg
    cfg.experiment_name += 'again'
    part = cfg.test_evaluator if where == 'evaluator' else cfg.test_dataloader.dataset
    part.update(options)
    run = Runner.from_cfg(cfg)
    run.test()
    assert len(run.test_loop.tested) == 1
    plain, other = Ledger(path).read()
    assert plain.config_sha256 != other.config_sha256


def test_several_data_sets_in_one_test(data, checkpoint, tmp_path):
    """Their names and annotations are in the row; ids must tell images apart."""
    path = tmp_path / 'ledger.tsv'
    first = json.loads((data / 'train.json').read_text())
    content = copy.deepcopy(first)
    for entry in (*content['images'], *content['annotations']):
        key = 'image_id' if 'image_id' in entry else 'id'
        entry[key] += 100
    (tmp_path / 'other.json').write_text(json.dumps(content))
    for key in ('images', 'annotations'):
        content[key] += first[key]
    (tmp_path / 'both.json').write_text(json.dumps(content))
    cfg = runner(data, checkpoint, tmp_path, [ledger_hook(path)]).cfg
    cfg.experiment_name += 'again'
    leaf = cfg.test_dataloader.dataset
    other = dict(copy.deepcopy(leaf), ann_file=str(tmp_path / 'other.json'))
    cfg.test_dataloader.dataset = dict(type='ConcatDataset', datasets=[leaf, other])
    cfg.test_evaluator.ann_file = str(tmp_path / 'both.json')
    Runner.from_cfg(cfg).test()
    (row,) = Ledger(path).read()
    assert 'train.json + Coco ' in row.dataset and 'other.json' in row.dataset
    cfg.test_dataloader.dataset.datasets = [leaf, leaf]
    cfg.experiment_name += 'twice'
    with pytest.raises(ValueError, match='were tested twice'):
        Runner.from_cfg(cfg).test()


def test_the_config_of_a_run_gives_the_same_key(data, checkpoint, tmp_path):
    """What tools/verify.py --rerun relies on."""
    from mmengine.config import Config

    path = tmp_path / 'ledger.tsv'
    runner(data, checkpoint, tmp_path, [ledger_hook(path)]).test()
    (row,) = Ledger(path).read()
    cfg = Config.fromfile(f'{row.out_dir}/config.py')
    cfg.custom_hooks[-1].path = str(tmp_path / 'again.tsv')
    cfg.work_dir = str(tmp_path / 'again')
    cfg.experiment_name = 'again'
    Runner.from_cfg(cfg).test()
    (again,) = Ledger(tmp_path / 'again.tsv').read()
    assert again.key == row.key
    assert again.metrics == row.metrics


def test_no_path_of_the_machine_is_in_a_row(data, checkpoint, tmp_path, monkeypatch):
    """Where the outputs are below the working directory."""
    monkeypatch.chdir(tmp_path)
    run = runner(data, checkpoint, tmp_path, [ledger_hook(tmp_path / 'l.tsv')])
    run.test()
    (row,) = Ledger('l.tsv').read()
    assert not Path(row.out_dir).is_absolute()
    assert Path(row.out_dir).resolve() == Path(run.log_dir).resolve()
    assert Path(row.out_dir, 'config.py').is_file()


def test_what_fits_in_no_row_is_told_before_the_test(data, checkpoint, tmp_path):
    hook = ledger_hook(tmp_path / 'x.tsv', exp_name='=mine')
    run = runner(data, checkpoint, tmp_path, [hook])
    run.model.backbone.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ValueError, match='no row could be written to .*x.tsv: exp_name must not'):
        run.test()


def test_a_ledger_that_cannot_be_written_is_told_before_the_test(data, checkpoint, tmp_path):
    path = tmp_path / f'{"a" * 248}.tsv'  # too long with what is added while writing
    run = runner(data, checkpoint, tmp_path, [ledger_hook(path)])
    run.model.backbone.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(OSError, match='too long'):
        run.test()


@pytest.mark.parametrize('what', ['other metrics', 'no objects'])
def test_a_test_without_ap_leaves_no_row(data, checkpoint, tmp_path, capsys, what):
    path = tmp_path / 'rows.tsv'
    cfg = runner(data, checkpoint, tmp_path, [ledger_hook(path)]).cfg
    cfg.experiment_name += 'again'
    if what == 'other metrics':
        cfg.test_evaluator.prefix = 'mine'
    else:
        coco = json.loads((data / 'train.json').read_text())
        (tmp_path / 'empty.json').write_text(json.dumps(dict(coco, annotations=[])))
        cfg.test_evaluator.ann_file = str(tmp_path / 'empty.json')
    metrics = Runner.from_cfg(cfg).test()
    printed = capsys.readouterr()
    assert f'no row for {path}' in printed.out + printed.err
    assert not path.exists() and metrics


def test_bad_loops(data, checkpoint, tmp_path):
    with pytest.raises(ValueError, match="'fp32', 'bf16', 'fp16'"):
        runner(data, checkpoint, tmp_path, precision='int8').test()
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match='fp16 needs a GPU'):
            runner(data, checkpoint, tmp_path, precision='fp16').test()
    with pytest.raises(ValueError, match='seed0_step1 stand twice'):
        runner(data, checkpoint, tmp_path, eval_seeds=[0, 0]).test()
    flow = dict(scheduler=dict(type='FlowMatchEulerDiscreteScheduler'))
    with pytest.raises(ValueError, match='FlowMatch.* has another forward process than DDIM'):
        runner(data, checkpoint, tmp_path, variants=[flow]).test()
    run = runner(data, checkpoint, tmp_path, [ledger_hook(tmp_path / 'x.tsv')])
    run._load_from = None
    with pytest.raises(ValueError, match='needs a checkpoint'):
        run.test()
    assert not (tmp_path / 'x.tsv').exists()


@pytest.mark.parametrize(
    'path, name',
    [
        ('work_dirs/distill_20to1_seed3/iter_2500.pth', 'distill_20to1@iter_2500'),
        ('a/20to1_seed0/last.safetensors', '20to1@last'),
    ],
)
def test_an_experiment_has_one_name_for_all_train_seeds(path, name):
    assert experiment_of(path) == name


def test_stopwatch_leaves_the_first_out():
    watch = Stopwatch(warmup=1)
    watch.add('x', 100.0, 1)
    assert watch.per_image('x') == 100.0  # there is nothing else
    watch.add('x', 2.0, 2)
    watch.add('x', 4.0, 1)
    assert watch.per_image('x') == 2.0
    with watch('y', 2):
        sum(range(1000))
    assert watch.per_image('y') > 0
    with pytest.raises(KeyError):
        watch.per_image('z')
    assert 'threads' in device_name(torch.device('cpu'))


def evaluate(data, labels, classes, boxes=True, **kwargs):
    """AP of perfect detections of the tiny data set under these classes."""
    import json

    coco = json.loads((data / 'train.json').read_text())
    metric = CocoMetric(ann_file=str(data / 'train.json'), **kwargs)
    metric.dataset_meta = dict(classes=classes)
    results = []
    for annotation in coco['annotations']:
        x, y, w, h = annotation['bbox']
        count = 1 if boxes else 0
        results.append(
            (
                dict(img_id=annotation['image_id'], width=64, height=48),
                dict(
                    img_id=annotation['image_id'],
                    bboxes=torch.tensor([[x, y, x + w, y + h]])[:count].float().numpy(),
                    scores=torch.ones(count).numpy(),
                    labels=torch.tensor([labels[annotation['category_id'] - 1]])[:count].numpy(),
                ),
            )
        )
    return metric.compute_metrics(results)


def test_coco_metric(data):
    names = ('red', 'green', 'blue')
    found = evaluate(data, (0, 1, 2), names, classwise=True)
    assert found['bbox_mAP'] == pytest.approx(1)
    assert found['bbox_mAP_l'] == -1
    assert found['red_precision'] == pytest.approx(1)
    # labels are positions in classes, not in the file
    other = evaluate(data, (1, 2, 0), ('blue', 'red', 'green'))
    assert other['bbox_mAP'] == pytest.approx(1)
    only = evaluate(data, (1, 2, 1), ('blue', 'red', 'green'), classwise=True)
    assert only['blue_precision'] == 0
    assert only['green_precision'] == pytest.approx(1)
    wrong = evaluate(data, (1, 0, 2), names)
    assert wrong['bbox_mAP'] == pytest.approx(1 / 3)  # not rounded
    assert evaluate(data, (0, 1, 2), names, boxes=False)['bbox_mAP'] == 0
    with pytest.raises(ValueError, match="categories .'mauve'.*ann_file"):
        evaluate(data, (0, 1, 2), ('red', 'green', 'mauve'))


def test_a_detector_that_does_not_sample(tmp_path):
    """Tested once, whatever is asked for, and recorded like the others."""
    data = write_coco(tmp_path / 'coco')
    cfg = runner_config(data, tmp_path / 'work')
    cfg.model = Config.fromfile(ROOT / 'configs/detr/detr_demo.py').model
    init_default_scope('mmdiffdet')
    shrink_model(cfg.model)
    cfg.optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-4))
    cfg.experiment_name = 'detr_train'
    Runner.from_cfg(cfg).train()
    cfg.load_from = str(tmp_path / 'work/iter_2.pth')
    cfg.test_cfg.update(eval_seeds=[0, 1, 2], variants=[dict(sampling_timesteps=s) for s in (1, 4)])
    cfg.custom_hooks = [dict(type='LedgerHook', path=str(tmp_path / 'rows.tsv'))]
    cfg.experiment_name = 'detr_test'
    run = Runner.from_cfg(cfg)
    metrics = run.test()
    assert run.test_loop.stopwatch.per_image(0) == 0  # all the time is that of the features
    (row,) = Ledger(tmp_path / 'rows.tsv').read()
    assert (row.model_family, row.scheduler, row.eta) == ('DETR', 'none', None)
    assert row.AP == pytest.approx(100 * metrics['coco/bbox_mAP'])
    assert row.seconds_per_image > 0
    dumped = sha256s_of_tests(Path(row.out_dir, 'config.py').read_text())
    assert dumped[0] == row.config_sha256


def test_rows_are_named_by_changes_or_as_told(data, checkpoint, tmp_path, capsys):
    path = tmp_path / 'l.tsv'

    def test(**options):
        hook = dict(type='LedgerHook', path=str(path), **options)
        runner(data, checkpoint, tmp_path, [hook]).test()
        return [row.exp_name for row in Ledger(path).read()]

    (plain,) = test()
    assert test(changes=['renewal=None'], force=True) == [f'{plain}+renewal=None']
    assert 'what else' not in capsys.readouterr().err
    # a name that is not taken is told
    assert test(exp_name='mine') == [f'{plain}+renewal=None']
    printed = capsys.readouterr()
    assert f'as {plain}+renewal=None' in printed.out + printed.err
    assert '--force tests again and names it mine' in printed.out + printed.err
    assert test(exp_name='mine', force=True) == ['mine']


def test_metrics_that_no_row_holds_are_told(data, checkpoint, tmp_path, capsys):
    """A row that is there stands for its six metrics, not for a recall or a VOC AP."""
    path = tmp_path / 'l.tsv'
    runner(data, checkpoint, tmp_path, [ledger_hook(path)]).test()
    run = runner(data, checkpoint, tmp_path, [ledger_hook(path)])
    run.test_loop.evaluator.metrics[0].classwise = True
    run.test_loop.evaluator.metrics.append(SimpleNamespace(results=[], dataset_meta=None))
    capsys.readouterr()
    run.test()
    printed = capsys.readouterr()
    told = 'rows hold AP, AP50, AP75, APs, APm, APl: what else CocoMetric, SimpleNamespace report'
    assert told in printed.out + printed.err
