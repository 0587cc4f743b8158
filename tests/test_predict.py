"""tools/predict.py, as a user types it, and MMDetection's way."""

import importlib.util
import json
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer
from pycocotools.coco import COCO
from tiny import ROOT, build, runner_config, write_coco

from mmdiffdet.command import run_command
from mmdiffdet.engine import load_checkpoint_file
from mmdiffdet.pipelines import DiffusionDetPipeline
from mmdiffdet.pipelines.coco_results import CocoResults
from mmdiffdet.pipelines.inputs import find_inputs


def tool(name):
    path = ROOT / f'tools/{name}.py'
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    """Images, a config, a checkpoint as a training writes it, a finalised one."""
    folder = tmp_path_factory.mktemp('lab')
    cfg = runner_config(write_coco(folder / 'data'), folder)
    torch.save(
        dict(
            meta=dict(cfg=cfg.pretty_text, dataset_meta=dict(classes=('red', 'green', 'blue'))),
            state_dict=build(cfg.model).state_dict(),
        ),
        folder / 'iter_2.pth',
    )
    cfg.dump(folder / 'tiny.py')
    tool('finalize_checkpoint').finalize(folder / 'iter_2.pth', folder / 'final.safetensors')
    return folder


@pytest.fixture
def predict(monkeypatch, tmp_path):
    """Run it in this process; gives what is in predictions.json."""
    module = tool('predict')

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['predict.py', *map(str, arguments)])
        monkeypatch.chdir(tmp_path)
        code = module.main()
        if code:
            sys.exit(code)
        return json.loads((tmp_path / 'outputs/predictions.json').read_text())

    return run


def test_a_folder_with_a_bad_file(lab, predict, tmp_path, capsys):
    images = tmp_path / 'images'
    (images / 'deep').mkdir(parents=True)
    for i, name in enumerate(('a.png', 'deep/c.tif')):
        cv2.imwrite(str(images / name), cv2.imread(str(lab / f'data/images/{i}.png')))
    (images / 'bad.png').write_text('no image')
    (images / 'notes.txt').write_text('not one, either')
    options = '--score-thr 0 --steps 2 --device cpu --trajectory'.split()
    with pytest.raises(SystemExit) as stop:
        predict(lab / 'final.safetensors', images, *options)
    assert stop.value.code == 1
    error = capsys.readouterr().err
    assert '1 of 3 files were not read' in error and 'bad.png cannot be decoded' in error
    out = tmp_path / 'outputs'
    files = {p.relative_to(out).as_posix() for p in out.rglob('*') if p.is_file()}
    assert files == {
        'predictions.json',
        *(f'pictures/{name}' for name in ('a.png', 'deep/c.tif.png')),
        *(f'trajectories/{name}' for name in ('a.png', 'deep/c.tif.png')),
    }
    found = json.loads((out / 'predictions.json').read_text())
    assert [image['file_name'] for image in found['images']] == ['a.png', 'deep/c.tif']
    assert [c['name'] for c in found['categories']] == ['red', 'green', 'blue']
    painted, image = cv2.imread(str(out / 'pictures/a.png')), cv2.imread(str(images / 'a.png'))
    assert painted.shape == image.shape and (painted != image).any()
    pipe = DiffusionDetPipeline.from_single_file(lab / 'iter_2.pth')
    (boxes,) = pipe(images / 'a.png', num_inference_steps=2).boxes
    mine = [a['bbox'] for a in found['annotations'] if a['image_id'] == 1]
    corners = (
        torch.tensor(mine) + torch.tensor([[0, 0, 1, 1]]) * torch.tensor(mine)[:, [0, 1, 0, 1]]
    )
    torch.testing.assert_close(corners, boxes, atol=1e-4, rtol=0)


def test_images_as_people_have_them(lab, predict, tmp_path):
    """A JPEG without its last bytes, and 16 bits: found in, and painted."""
    images = tmp_path / 'images'
    images.mkdir()
    image = cv2.imread(str(lab / 'data/images/0.png'))
    cv2.imwrite(str(images / 'deep.png'), image.astype(np.uint16) * 16)
    whole = cv2.imencode('.jpg', image)[1].tobytes()
    (images / 'cut.jpg').write_bytes(whole[: len(whole) * 2 // 3])
    found = predict(lab / 'final.safetensors', images, '--score-thr', 0, '--trajectory')
    assert [(i['height'], i['width']) for i in found['images']] == [image.shape[:2]] * 2
    for name in ('pictures/cut.jpg', 'pictures/deep.png'):
        painted = cv2.imread(str(tmp_path / 'outputs' / name))
        assert painted.shape == image.shape and painted.mean() > 60  # not black
    assert len(list((tmp_path / 'outputs/trajectories').iterdir())) == 2


def test_ids_of_an_annotation_file(lab, predict, tmp_path):
    """Noise and category ids are those of tools/test.py; COCO reads the result."""
    pattern = f'{lab}/data/images/[12].png'
    tool_args = ['--score-thr', 0, '--no-pictures', '--eval-seed', 3]
    ann_file = lab / 'data/train.json'
    found = predict(
        lab / 'tiny.py', lab / 'iter_2.pth', pattern, '--ann-file', ann_file, *tool_args
    )
    assert [image['id'] for image in found['images']] == [1, 2]
    assert not (tmp_path / 'outputs/pictures').exists()
    loaded = COCO(str(ann_file)).loadRes(found['annotations'])
    assert len(loaded.anns) == len(found['annotations']) > 0
    pipe = DiffusionDetPipeline.from_single_file(lab / 'iter_2.pth')
    expected = pipe(lab / 'data/images/2.png', eval_seed=3, image_ids=[2]).scores[0]
    assert [a['score'] for a in found['annotations'] if a['image_id'] == 2] == expected.tolist()
    # without it, images do not depend on which others there are
    alone = predict(lab / 'final.safetensors', lab / 'data/images/2.png', *tool_args)
    both = predict(lab / 'final.safetensors', pattern, *tool_args)
    last = [a['score'] for a in both['annotations'] if a['image_id'] == 2]
    assert [a['score'] for a in alone['annotations']] == last != expected.tolist()


def test_a_video(lab, predict, tmp_path):
    path = tmp_path / 'clip.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 5, (64, 48))
    if not writer.isOpened():
        pytest.skip('OpenCV has no codec here')
    for i in range(3):
        writer.write(cv2.imread(str(lab / f'data/images/{i}.png')))
    writer.release()
    found = predict(lab / 'final.safetensors', path, '--score-thr', 0)
    assert [image['frame'] for image in found['images']] == [0, 1, 2]
    assert {a['image_id'] for a in found['annotations']} == {1, 2, 3}
    painted = cv2.VideoCapture(str(tmp_path / 'outputs/pictures/clip.avi.mp4'))
    assert painted.get(cv2.CAP_PROP_FPS) == 5
    assert painted.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    assert painted.read()[1].shape == (48, 64, 3)
    (tmp_path / 'bad.mp4').write_text('no video')
    with pytest.raises(SystemExit):
        predict(lab / 'final.safetensors', tmp_path / 'bad.mp4')
    with pytest.raises(ValueError, match='--trajectory is for images'):
        predict(lab / 'final.safetensors', path, '--trajectory')


def test_a_pipeline_of_a_checkpoint_without_config(lab, predict, tmp_path, monkeypatch):
    """As of tools/convert_checkpoint.py."""
    module = tool('finalize_checkpoint')
    bare = tmp_path / 'bare.pth'
    torch.save(dict(state_dict=load_checkpoint_file(lab / 'iter_2.pth')['state_dict']), bare)
    image = lab / 'data/images/0.png'
    with pytest.raises(ValueError, match='carries no config'):
        predict(bare, image)
    expected = predict(lab / 'final.safetensors', image, '--score-thr', 0)
    given = tmp_path / 'given.safetensors'
    for arguments in ([bare, given], [bare, '--pipeline', tmp_path / 'pipe']):
        monkeypatch.setattr(
            sys, 'argv', ['x', *map(str, arguments), '--config', str(lab / 'tiny.py')]
        )
        assert not module.main()
    for checkpoint in (given, tmp_path / 'pipe'):
        assert predict(checkpoint, image, '--score-thr', 0) == expected
    other = predict(
        tmp_path / 'pipe',
        image,
        '--score-thr',
        0,
        '--scheduler',
        'EulerDiscreteScheduler',
        '--steps',
        3,
        '--proposals',
        7,
    )
    assert other != expected
    with pytest.raises(ValueError, match='leave out .*tiny.py'):
        predict(lab / 'tiny.py', tmp_path / 'pipe', image)


@pytest.mark.parametrize(
    'arguments, error',
    [
        ('@none.pth @data', 'checkpoint .*none.pth does not exist'),
        ('@final.safetensors @none.png', 'none.png does not exist: give an image'),
        ('@final.safetensors @*.gif', r'pattern .*\*.gif matches no file'),
        ('@final.safetensors @empty', 'empty holds no image or video'),
        ('@final.safetensors @data --device cuda:77', '--device cuda:77'),
        ('@final.safetensors @data --device tpu-x', '--device tpu-x'),
        ('@final.safetensors @data --scheduler X', "unknown box scheduler 'X'"),
        ('@final.safetensors @data --steps 0', 'from 1 to 1000'),
        ('@final.safetensors @data --ann-file none.json', '--ann-file .* not exist'),
        ('@final.safetensors @data --ann-file @tiny.py', 'not in COCO format'),
        ('@data/train.json @data', 'train.json cannot be read: it is damaged or not a checkpoint'),
    ],
)
def test_what_is_wrong_is_told_in_one_line(lab, predict, arguments, error):
    (lab / 'empty').mkdir(exist_ok=True)
    arguments = [a.replace('@', f'{lab}/') for a in arguments.split()]
    with pytest.raises(SystemExit) as stop:
        run_command(lambda: predict(*arguments))
    assert re.match(f'ERROR: .*{error}', str(stop.value))
    assert '\n' not in str(stop.value) and stop.value.code == 1


def test_help_needs_no_torch():
    code = """
import runpy, sys
sys.argv = ['tools/predict.py', '--help']
try:
    runpy.run_path(sys.argv[0], run_name='__main__')
finally:
    assert 'torch' not in sys.modules
"""
    shown = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert '--score-thr' in shown.stdout


def test_inputs_and_their_names(tmp_path):
    for name in ('x/1.png', 'y/1.png', 'y/.hidden.png', 'y/film.MP4'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_inputs([str(tmp_path / 'y'), str(tmp_path / '*/1.png')])
    assert [(item.name, item.is_video) for item in found] == [
        ('y/1.png', False),
        ('y/film.MP4', True),
        ('x/1.png', False),
    ]


def test_ids_of_names_that_repeat(tmp_path):
    content = dict(
        images=[dict(id=i, file_name=n) for i, n in enumerate(('x/1.png', 'y/1.png', 'y/2.png'))],
        categories=[dict(id=5, name='a')],
    )
    (tmp_path / 'a.json').write_text(json.dumps(content))
    results = CocoResults(['a'], tmp_path / 'a.json')
    assert (results.image_id('y/1.png'), results.image_id('z/2.png')) == (1, 2)
    assert results.categories == [dict(id=5, name='a')]
    with pytest.raises(ValueError, match='several images named 1.png'):
        results.image_id('1.png')
    with pytest.raises(ValueError, match='no image named 3.png'):
        results.image_id('3.png')
    with pytest.raises(ValueError, match=r"no categories \['b'\]"):
        CocoResults(['a', 'b'], tmp_path / 'a.json')


def test_mmdetections_inferencer(lab):
    """The documented line: mmdiffdet is imported, the scope named."""
    inferencer = DetInferencer(
        model=str(lab / 'tiny.py'),
        weights=str(lab / 'final.safetensors'),
        scope='mmdiffdet',
        device='cpu',
        show_progress=False,
    )
    image = lab / 'data/images/0.png'
    (found,) = inferencer(str(image))['predictions']
    expected = DiffusionDetPipeline.from_single_file(lab / 'final.safetensors')(image)
    np.testing.assert_allclose(found['scores'], expected.scores[0].tolist(), atol=1e-5)
    np.testing.assert_allclose(found['bboxes'], expected.boxes[0].tolist(), atol=1e-2)
