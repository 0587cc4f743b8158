"""The command lines, as a user types them."""

import importlib.util
import json
import math
import os
import pickle
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from tiny import ROOT, runner_config, write_coco

from mmdiffdet.engine import load_checkpoint_file
from mmdiffdet.engine.require_checkpoint import require_checkpoint

# the scripts call "python": the one that runs the tests
ENVIRONMENT = dict(
    os.environ,
    OMP_NUM_THREADS='1',
    PATH=f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}',
)


def run(*args, check=True, forked=False):
    """Run a command of tools/ in the repository's folder."""
    command, options = [str(a) for a in args], dict(cwd=ROOT, env=ENVIRONMENT)
    if forked and hasattr(os, 'fork'):
        from forked import run as run_forked

        result = run_forked(command, **options)
    else:
        result = subprocess.run(command, **options, capture_output=True, text=True)
    if check:
        assert result.returncode == 0, result.stderr[-3000:]
    return result


def python(tool, *args, **kwargs):
    return run(sys.executable, f'tools/{tool}', *args, forked=True, **kwargs)


@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    """A config file and a checkpoint that tools/train.py made with it."""
    folder = tmp_path_factory.mktemp('lab')
    cfg = runner_config(write_coco(folder / 'data'), folder)
    cfg.pop('work_dir')
    cfg.dump(folder / 'tiny.py')
    log = run(sys.executable, 'tools/train.py', folder / 'tiny.py', '--work-dir', folder / 'work')
    assert 'loss: ' in log.stdout + log.stderr
    assert (folder / 'work/iter_2.pth').exists()
    return folder


def detections(lab, out, *options, processes=0):
    command = [sys.executable, 'tools/test.py']
    model = [lab / 'tiny.py', lab / 'work/iter_2.pth']
    if processes:
        command = ['bash', 'tools/dist_test.sh']
        model.append(processes)
    run(
        *command,
        *model,
        '--work-dir',
        lab / 'test',
        '--out',
        lab / out,
        '--ledger',
        lab / 'ledger.tsv',
        *options,
        forked=not processes,
    )
    with open(lab / out, 'rb') as file:
        results = pickle.load(file)
    return {
        r['img_id']: [r['pred_instances'][k].numpy() for k in ('bboxes', 'scores', 'labels')]
        for r in results
    }


def assert_same(found, expected):
    assert found.keys() == expected.keys() and len(found) == 6
    for key in found:
        assert len(found[key][0]) > 0
        for a, b in zip(found[key], expected[key]):
            np.testing.assert_array_equal(a, b)


def test_test_and_its_options(lab):
    one = detections(
        lab,
        'one.pkl',
        '--metrics',
        lab / 'one.json',
        '--show-dir',
        'shown',
        '--cfg-options',
        'test_dataloader.batch_size=1',
        'test_dataloader.num_workers=1',
    )
    assert 'coco/bbox_mAP' in json.loads((lab / 'one.json').read_text())
    assert list(lab.glob('test/**/shown/**/*.png'))
    again = detections(lab, 'again.pkl', '--cfg-options', 'test_dataloader.batch_size=4')
    assert_same(again, one)
    again = detections(lab, 'again.pkl', '--force', '--cfg-options', 'test_dataloader.batch_size=1')
    assert_same(again, one)
    assert (lab / 'again.pkl').read_bytes() == (lab / 'one.pkl').read_bytes()
    other = detections(
        lab,
        'other.pkl',
        '--tta',
        '--cfg-options',
        'model.sampler.sampling_timesteps=3',
        'model.sampler.scheduler.type=DPMSolverMultistepScheduler',
        'model.sampler.renewal=None',
        'model.test_cfg.eval_seed=1',
    )
    assert not np.array_equal(other[0][1], one[0][1])
    assert len(other[0][1]) > 12 >= len(one[0][1])  # of six views, of one


def test_two_processes_find_the_same(lab):
    alone = detections(lab, 'alone.pkl', '--metrics', lab / 'alone.json')
    two = detections(lab, 'two.pkl', '--metrics', lab / 'two.json', processes=2)
    assert_same(two, alone)
    assert (lab / 'two.pkl').read_bytes() == (lab / 'alone.pkl').read_bytes()
    assert json.loads((lab / 'two.json').read_text()) == json.loads(
        (lab / 'alone.json').read_text()
    )


def test_two_processes_train(lab):
    run(
        'bash',
        'tools/dist_train.sh',
        lab / 'tiny.py',
        '2',
        '--work-dir',
        lab / 'dist',
        '--cfg-options',
        'optim_wrapper.paramwise_cfg.backbone_lr_mult=0',
    )
    weights = torch.load(lab / 'dist/iter_2.pth', weights_only=False)
    assert weights['meta']['iter'] == 2
    assert all(v.isfinite().all() for v in weights['state_dict'].values() if v.is_floating_point())


def test_amp_and_resume(lab):
    folder = lab / 'amp'
    python('train.py', lab / 'tiny.py', '--work-dir', folder, '--amp')
    log = python(
        'train.py',
        lab / 'tiny.py',
        '--work-dir',
        folder,
        '--amp',
        '--resume',
        '--cfg-options',
        'train_cfg.max_iters=4',
    )
    assert 'resumed' in log.stdout + log.stderr
    # with nothing to resume, training starts from load_from
    log = python(
        'train.py',
        lab / 'tiny.py',
        '--work-dir',
        lab / 'fresh',
        '--resume',
        '--cfg-options',
        f'load_from={lab / "work/iter_2.pth"}',
    )
    assert 'Load checkpoint from' in log.stdout + log.stderr
    assert (folder / 'iter_4.pth').exists()


@pytest.mark.parametrize(
    'options, message',
    [
        (['model.sampler.scheduler.type=DDIM'], "unknown box scheduler 'DDIM'"),
        (['model.sampler.sampling_timesteps=0'], 'from 1 to 1000'),
        (['model.bbox_head.num_stages=3'], 'of another model'),
    ],
)
def test_mistakes_end_in_one_clear_error(lab, options, message):
    result = python(
        'test.py',
        lab / 'tiny.py',
        lab / 'work/iter_2.pth',
        '--work-dir',
        lab / 'bad',
        '--no-ledger',
        '--cfg-options',
        *options,
        check=False,
    )
    assert result.returncode != 0
    assert message in result.stderr
    assert 'Traceback' not in result.stderr


def test_missing_files(lab):
    result = python(
        'test.py',
        lab / 'tiny.py',
        lab / 'none.pth',
        '--work-dir',
        lab / 'bad',
        '--no-ledger',
        check=False,
    )
    assert f'checkpoint {lab / "none.pth"} does not exist' in result.stderr
    result = python('train.py', lab / 'none.py', check=False)
    assert f'ERROR: config {lab / "none.py"} does not exist' in result.stderr
    assert 'Traceback' not in result.stderr


def test_missing_pretrained_weights_name_the_command():
    with pytest.raises(FileNotFoundError, match='fetch_mobilenet_v2.py'):
        require_checkpoint('nowhere/mobilenet_v2_imagenet.safetensors', 'model.backbone.init_cfg')


def test_trajectory(lab):
    out = lab / 'picture.png'
    python(
        'analysis_tools/plot_trajectory.py',
        lab / 'tiny.py',
        lab / 'work/iter_2.pth',
        out,
        '--steps',
        '3',
    )
    picture = cv2.imread(str(out))
    assert picture.shape[1] > 400 and picture.std() > 10


def module(path):
    spec = importlib.util.spec_from_file_location(path.rsplit('/', 1)[-1][:-3], ROOT / path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_demo_data(tmp_path, monkeypatch):
    pytest.importorskip('skimage')
    tool = module('tools/dataset_converters/compose_demo.py')
    monkeypatch.setattr(tool, 'NUM_IMAGES', dict(train=4, val=2))
    contents = []
    for name in ('a', 'b'):
        monkeypatch.setattr(sys, 'argv', ['x', str(tmp_path / name)])
        tool.main()
        contents.append(
            {
                p.relative_to(tmp_path / name): p.read_bytes()
                for p in (tmp_path / name).rglob('*')
                if p.is_file()
            }
        )
    assert contents[0] == contents[1]  # from the seed alone
    coco = json.loads((tmp_path / 'a/train.json').read_text())
    assert len(coco['images']) == 4
    for annotation in coco['annotations']:
        x, y, w, h = annotation['bbox']
        assert x >= 0 and y >= 0 and x + w <= 320 and y + h <= 240
        assert min(w, h) > 5
    classes = Config.fromfile(ROOT / 'configs/_base_/datasets/demo.py').metainfo.classes
    assert [c['name'] for c in coco['categories']] == list(classes)


def test_voc_to_coco(tmp_path):
    for folder in ('Annotations', 'ImageSets/Main', 'JPEGImages'):
        (tmp_path / folder).mkdir(parents=True)
    cv2.imwrite(str(tmp_path / 'JPEGImages/a.jpg'), np.zeros((48, 64, 3), np.uint8))
    box = (
        '<object><name>{}</name><difficult>0</difficult><bndbox>'
        '<xmin>{}</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax>'
        '</bndbox></object>'
    )
    (tmp_path / 'Annotations/a.xml').write_text(
        '<annotation><size><width>64</width><height>48</height></size>'
        + box.format('cell', 3)
        + box.format('dust', 9)
        + box.format('cell', 30)
        + '</annotation>'
    )
    (tmp_path / 'ImageSets/Main/train.txt').write_text('a\n')
    tool = 'dataset_converters/voc_to_coco.py'
    python(tool, tmp_path, 'train', tmp_path / 'out.json')
    coco = json.loads((tmp_path / 'out.json').read_text())
    assert [c['name'] for c in coco['categories']] == ['cell', 'dust']
    assert coco['images'] == [dict(id=1, file_name='JPEGImages/a.jpg', width=64, height=48)]
    # VOC counts pixels from 1; the degenerate box is gone
    assert [a['bbox'] for a in coco['annotations']] == [[2, 1, 27, 38], [8, 1, 21, 38]]
    result = python(tool, tmp_path, 'val', tmp_path / 'x.json', check=False)
    assert result.returncode == 1 and 'val.txt' in result.stderr
    assert not (tmp_path / 'x.json').exists()


def test_numbers_from_test_to_verify(lab):
    """Test with many seeds, summarise, freeze, and test a row again."""
    ledger = lab / 'chain.tsv'
    python(
        'test.py',
        lab / 'tiny.py',
        lab / 'work/iter_2.pth',
        '--work-dir',
        lab / 'test',
        '--ledger',
        ledger,
        '--eval-seeds',
        '0',
        '1',
        '--steps',
        '1',
        '2',
    )
    table = python('summarize.py', ledger, '--format', 'tsv').stdout
    assert 'work@iter_2' in table and len(table.splitlines()) >= 3
    python('freeze.py', lab / 'frozen', '--rows', ledger)
    good = python('verify.py', lab / 'frozen', '--rerun', '1', '--trust')
    assert '1 reruns' in good.stdout
    runs = next((lab / 'frozen').glob('runs*'))
    text = runs.read_text()
    runs.write_text(text.replace('DDIM', 'DDPM', 1))
    bad = python('verify.py', lab / 'frozen', check=False)
    assert bad.returncode == 1 and 'has changed' in bad.stderr


@pytest.mark.parametrize('ending', ['pth', 'safetensors'])
def test_finalize(lab, monkeypatch, ending):
    from mmdiffdet.ledger import sha256_of_file

    tool = module('tools/finalize_checkpoint.py')
    src, dst = lab / 'work/iter_2.pth', lab / f'final/model.{ending}'
    digest = tool.finalize(src, dst)
    whole, final = load_checkpoint_file(src), load_checkpoint_file(dst)
    assert set(final) == {'meta', 'state_dict'}
    assert final['meta']['seed'] == whole['meta']['seed'] == 0
    assert 'DiffusionDet' in final['meta']['cfg']
    for key, value in whole['state_dict'].items():
        assert torch.equal(final['state_dict'][key], value)
    assert digest == sha256_of_file(dst)
    assert (lab / f'final/model.{ending}.sha256').read_text() == f'{digest}  model.{ending}\n'
    with pytest.raises(ValueError, match='EMAHook'):
        tool.finalize(src, dst, ema=True)
    with pytest.raises(ValueError, match='must end in'):
        tool.finalize(src, lab / 'model.bin')


def test_the_average_is_tested_and_given_away(tmp_path):
    """Of mmengine's two sets of weights, the right one."""
    tool = module('tools/finalize_checkpoint.py')
    cfg = runner_config(write_coco(tmp_path / 'data'), tmp_path)
    cfg.merge_from_dict(
        dict(
            custom_hooks=Config.fromfile(ROOT / 'configs/_base_/parts/amp_ema.py').part.custom_hooks
        )
    )
    cfg.train_cfg.max_iters = 3
    cfg.default_hooks.checkpoint.interval = 3
    cfg.optim_wrapper.optimizer.lr = 0.01
    cfg.experiment_name = 'average'
    runner = Runner.from_cfg(cfg)
    last, average = [], []

    class Watch(Hook):
        def after_train_iter(self, runner, *args, **kwargs):
            last.append({k: v.clone() for k, v in runner.model.state_dict().items()})

        def before_test_iter(self, runner, *args, **kwargs):
            average.append({k: v.clone() for k, v in runner.model.state_dict().items()})

    runner.register_hook(Watch())
    runner.train()
    name = 'neck.fpn_convs.0.conv.weight'
    expected = last[0][name]
    for step in (1, 2):  # the average moves faster in the beginning
        rate = 0.001 + 0.999 * math.exp(-(1 + step) / 2000)
        expected = expected.lerp(last[step][name], rate)
    assert not torch.allclose(expected, last[2][name], rtol=0, atol=1e-9)
    cfg.load_from = str(tmp_path / 'iter_3.pth')
    cfg.experiment_name = 'average_test'
    runner = Runner.from_cfg(cfg)
    runner.register_hook(Watch())
    runner.test()
    tool.finalize(tmp_path / 'iter_3.pth', tmp_path / 'a.pth', ema=True)
    tool.finalize(tmp_path / 'iter_3.pth', tmp_path / 'b.safetensors')
    given = [load_checkpoint_file(tmp_path / name) for name in ('a.pth', 'b.safetensors')]
    assert [g['meta']['weights'] for g in given] == ['ema', 'ema']
    for weights in (average[0], *(g['state_dict'] for g in given)):
        torch.testing.assert_close(weights[name], expected)
        assert not torch.equal(weights[name], last[2][name])
        assert weights.keys() == last[0].keys()


def test_changes_name_rows():
    """Fields of the protocol have columns of their own."""
    changes_of = module('tools/test.py').changes_of
    assert changes_of(None) == []
    assert changes_of(
        {
            'model.sampler.stages_per_step': [4, 1],
            'model.sampler.eta': 0.0,
            'model.test_cfg.num_proposals': 50,
            'model.sampler.renewal': None,
            'model.bbox_head.stage.interaction.type': 'NoInteraction',
            'test_cfg.precision': 'bf16',
        }
    ) == [
        'interaction.type=NoInteraction',
        'renewal=None',
        'stages_per_step=4-1',
        'num_proposals=50',
    ]
