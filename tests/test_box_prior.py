"""The distribution of a training set's boxes, by hand."""

import json

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmdiffdet.datasets.box_prior import box_prior, use_box_prior


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmdiffdet')


def prior_of(root, *sizes_and_boxes):
    """A config of images (width, height), each with boxes [x, y, w, h]."""
    images, annotations = [], []
    for i, ((width, height), boxes) in enumerate(sizes_and_boxes):
        images.append(dict(id=i, file_name=f'{i}.png', width=width, height=height))
        for box in boxes:
            more = dict(id=len(annotations) + 1, image_id=i, category_id=1, bbox=box)
            annotations.append(dict(more, iscrowd=int(box[2] == 33)))
    content = dict(images=images, annotations=annotations, categories=[dict(id=1, name='red')])
    (root / 'a.json').write_text(json.dumps(content))
    return dict(
        type='CocoDataset',
        ann_file=str(root / 'a.json'),
        data_prefix=dict(img=''),
        metainfo=dict(classes=('red',)),
    )


def test_prior_of_boxes_by_hand(tmp_path):
    """Centre and size in units of each image, from -scale to scale; a crowd is no box."""
    dataset = prior_of(
        tmp_path,
        ((100, 50), [[20, 10, 40, 20], [0, 0, 33, 40]]),
        ((40, 80), [[20, 40, 10, 20]]),
    )
    # (cx, cy, w, h) are (0.4, 0.4, 0.4, 0.4) and (0.625, 0.625, 0.25, 0.25)
    signal = np.array([[-0.2] * 2 + [-0.2] * 2, [0.25] * 2 + [-0.5] * 2]) * 3
    mean, sigma = box_prior(dataset, 3.0)
    assert mean == pytest.approx(signal.sum(0) / 2)
    assert sigma == pytest.approx(abs(signal[0] - signal[1]) / 2)
    codec = dict(type='BoxCodec', noise_mean='from_file')
    for scale, given in ((2.0, {}), (3.0, dict(scale=3.0))):
        loader = dict(dataset=dataset)
        cfg = Config(dict(model=dict(box_codec=dict(codec, **given)), train_dataloader=loader))
        use_box_prior(cfg)
        assert cfg.model.box_codec.noise_mean == pytest.approx(signal.mean(0) * scale / 3)
        assert cfg.model.box_codec.noise_sigma == pytest.approx(signal.std(0) * scale / 3)
    cfg.model.box_codec = dict(codec, noise_sigma=1.0)
    with pytest.raises(ValueError, match='takes noise_sigma from the training set too'):
        use_box_prior(cfg)
    other = Config(dict(model=dict(box_codec=dict(noise_mean=(0, 0, 0, 0), noise_sigma=1.0))))
    use_box_prior(other)  # asks for nothing
    assert other.model.box_codec.noise_sigma == 1.0


def test_prior_of_boxes_out_of_their_image_is_within_the_scale(tmp_path):
    with pytest.warns(UserWarning, match='2 box.es. reach out'):
        dataset = prior_of(tmp_path, ((50, 50), [[45, -20, 60, 45], [48, -19, 64, 40]]))
        mean, _ = box_prior(dataset, 2.0)
    # centres of 1.5 and 1.6, and 0.05 and 0.02; sides of 1.2 and 1.28, and 0.9 and 0.8
    assert mean == pytest.approx((2, (2 * 0.035 - 1) * 2, 2, (2 * 0.85 - 1) * 2))


@pytest.mark.parametrize(
    'boxes',
    [
        [[1, 1, 9, 9]],
        [[1, 1, 9, 9]] * 2,
        [[1, 1, 9, 9], [0.5, 2, 10, 11]],  # the centre in x alone is the same
    ],
)
def test_boxes_that_do_not_differ_are_no_prior(boxes, tmp_path):
    with pytest.raises(ValueError, match=f'{len(boxes)} boxes of .*a.json have no spread'):
        box_prior(prior_of(tmp_path, ((50, 50), boxes)), 2.0)
