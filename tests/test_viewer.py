"""The viewer of a page: its data, its part of the page, and what a browser makes of it."""

import json
import re
import shutil
import subprocess

import cv2
import numpy as np
import pytest
import torch
from ledger_rows import ROW, grouped
from mmengine.structures import InstanceData

from mmdiffdet.diffusion.prediction import Prediction
from mmdiffdet.diffusion.sampling import SamplingStep
from mmdiffdet.reports.page import render_page
from mmdiffdet.reports.viewer import render_viewer
from mmdiffdet.visualization import trajectory_data

CHROMIUM = shutil.which('chromium') or shutil.which('google-chrome')
CLASSES = ['coin', 'cup</script>']


def image_data(path, steps=2, quality_power=1.0, **options):
    """Two proposals of three go to one object; the third has a bad quality."""
    cv2.imwrite(str(path), np.full((60, 80, 3), (40, 120, 90), np.uint8))
    start = torch.tensor([[[-9.0, 5, 30, 40], [1, 1, 9, 9], [20, 10, 70, 50]]])
    end = torch.tensor([[[10.04, 10, 30, 30], [11, 10, 30, 30], [20, 10, 70, 50]]])
    logits = torch.tensor([[[2.0, -5], [-5, 3], [5, -5]]])
    prediction = Prediction(end, logits, torch.tensor([[5.0, 5, -5]]))
    boxes = torch.linspace(0, 1, steps + 1)[:steps]
    way = [
        SamplingStep(k, 999 - k, start + part * (end - start), prediction)
        for k, part in enumerate(boxes)
    ]
    found = InstanceData(
        bboxes=end[0, [1, 0, 2]],
        scores=torch.tensor([0.94, 0.87, 0.04]),
        labels=torch.tensor([1, 0, 0]),
    )
    return trajectory_data(way, found, str(path), (60, 80), quality_power, **options)


@pytest.fixture
def paths(tmp_path):
    """A teacher of two steps and a student of one, with two images."""
    for name, steps in (('teacher', 2), ('student <1>', 1)):
        images = [image_data(tmp_path / f'{i}.png', steps) for i in range(2)]
        content = dict(name=name, classes=CLASSES, images=images)
        (tmp_path / f'{steps}.json').write_text(json.dumps(content))
    return [tmp_path / '2.json', tmp_path / '1.json']


def test_data_have_the_best_proposals_and_the_score_of_detections(tmp_path):
    image = image_data(tmp_path / 'a.png', num_proposals=2, max_width=40)
    assert (image['name'], image['width'], image['height']) == ('a.png', 40, 30)
    assert image['uri'].startswith('data:image/jpeg;base64,/9j/')
    way = image['way']
    assert way['proposals'] == 3 and way['timesteps'] == [999, 998]
    # by class and quality together the third is the worst; half as large as it was
    assert way['labels'] == [[1, 0], [1, 0]]
    assert way['scores'][0] == pytest.approx([0.946, 0.875], abs=1e-3)
    assert way['boxes'][0] == [[0.5, 0.5, 4.5, 4.5], [-4.5, 2.5, 15.0, 20.0]]
    assert way['boxes'][2] == [[5.5, 5.0, 15.0, 15.0], [5.0, 5.0, 15.0, 15.0]]
    assert way['detections'] == [[5.5, 5.0, 15.0, 15.0, 0.94, 1], [5.0, 5.0, 15.0, 15.0, 0.87, 0]]
    best = image_data(tmp_path / 'a.png', quality_power=0.0, num_proposals=1)['way']
    assert best['boxes'][0] == [[20.0, 10.0, 70.0, 50.0]] and best['labels'] == [[0], [0]]


@pytest.mark.parametrize('width, scaled', [(480, 480), (481, 480), (960, 480)])
def test_data_of_large_images_and_many_proposals(width, scaled, tmp_path):
    """60 proposals, 480 pixels, no quality; a detection at the viewer's lowest score is none."""
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((48, width, 3), np.uint8))
    boxes = torch.tensor([0.0, 0, width, 48]).expand(1, 61, 4)
    logits = torch.linspace(-2, 2, 61)[None, :, None]
    step = SamplingStep(0, 999, boxes, Prediction(boxes, logits, None))
    found = InstanceData(
        bboxes=boxes[0, :2], scores=torch.tensor([0.051, 0.05]), labels=torch.tensor([0, 0])
    )
    data = trajectory_data([step], found, str(tmp_path / 'a.png'), (48, width))
    assert (data['width'], data['height']) == (scaled, round(48 * scaled / width))
    assert data['way']['proposals'] == 61
    scores = (1 / (1 + np.exp(-np.linspace(2, -2, 61)))).tolist()
    assert data['way']['scores'][0] == pytest.approx(scores[:60], abs=5.1e-4)
    assert [d[4] for d in data['way']['detections']] == [0.051]
    assert data['way']['detections'][0][:4] == pytest.approx(
        [0, 0, 480, 48 * scaled / width], abs=0.051
    )


def test_page_holds_the_viewer_and_loads_nothing(paths):
    page = render_page('x', grouped([ROW]), trajectories=paths)
    data = re.search(r'id="trajectories">(.*?)</script>', page, re.S).group(1)
    content = json.loads(data)
    assert content['classes'] == CLASSES and len(content['images']) == 2
    assert [model['name'] for model in content['models']] == ['teacher', 'student <1>']
    assert [len(model['ways'][0]['boxes']) for model in content['models']] == [3, 2]
    assert 'teacher and student &lt;1&gt;' in page
    addresses = set(re.findall(r'https?://[^\s"\'<)]+', page.split('id="trajectories"')[1]))
    assert addresses <= {'http://www.w3.org/2000/svg'} | set(
        re.findall(r'https?://[^\s"\'<)]+', render_page('x', grouped([ROW])))
    )


def test_what_does_not_belong_together_is_refused(paths, tmp_path):
    with pytest.raises(FileNotFoundError, match='none.json'):
        render_viewer([tmp_path / 'none.json'])
    content = json.loads(paths[1].read_text())
    for change, message in (
        (dict(classes=['coin']), 'other classes'),
        (dict(images=content['images'][:1]), 'other images'),
        (dict(images=[]), 'has no images'),
        (dict(images=[dict(content['images'][0], way={})]), "a part has no .'boxes'"),
        (dict(images=[7]), "a part has no .'height'"),
    ):
        bad = tmp_path / 'bad.json'
        bad.write_text(json.dumps({**content, **change}))
        with pytest.raises(ValueError, match=f'bad.json.*{message}'):
            render_viewer([paths[0], bad])
    bad.write_text('[]')
    with pytest.raises(ValueError, match='a part has no'):
        render_viewer([bad])
    bad.write_text('{')
    with pytest.raises(ValueError, match='bad.json is no JSON'):
        render_viewer([bad])


def _browse(page, view, folder, *options):
    """The document as the browser has it after the script has run."""
    command = [CHROMIUM, '--headless', '--no-sandbox', '--disable-gpu', '--dump-dom']
    command += [f'--user-data-dir={folder / "profile"}', '--virtual-time-budget=1000', *options]
    return subprocess.run(
        [*command, f'{page.as_uri()}#{view}'], capture_output=True, text=True, timeout=120
    ).stdout


@pytest.mark.skipif(CHROMIUM is None, reason='needs Chromium')
def test_a_browser_shows_boxes_and_then_detections(paths, tmp_path):
    page = tmp_path / 'page.html'
    page.write_text(render_page('x', grouped([ROW]), trajectories=paths))
    picture = tmp_path / 'page.png'
    dom = _browse(page, 'step=1.5&score=0.9&image=1', tmp_path)
    assert '<rect' in dom
    # the teacher is halfway from its second step to the end
    assert 'into step 2 of 2, t = 998' in dom
    assert '3 of 3 boxes; 1 come out of this step with a score &gt; 0.90' in dom
    assert re.search(r'<rect x="8.5" y="7.75" width="16.25" height="17" class="sure"', dom)
    assert dom.count('class="unsure"') == 2
    # the student is done
    assert 'done after 1 step<' in dom
    assert '1 detection with a score &gt; 0.90' in dom
    assert 'cup&lt;/script&gt; 0.94' in dom and 'coin 0.87' not in dom
    assert 'aria-pressed="false"' in dom.split('aria-pressed="true"')[0]
    options = f'--screenshot={picture}', '--window-size=1000,900'
    dom = _browse(page, 'step=9', tmp_path, *options)
    # unless told, the threshold is half of the best scores
    assert dom.count('2 detections with a score &gt; 0.47') == 2
    assert 'coin 0.87' in dom
    # the image that the page holds is there to see
    green = np.abs(cv2.imread(str(picture)).astype(int) - (40, 120, 90)).max(-1) < 12
    assert green.mean() > 0.05
