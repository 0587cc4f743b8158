"""Options of parts and losses, each at values worked out by hand."""

import math

import pytest
import torch
import torch.nn.functional as F

from mmdiffdet.diffusion import PerImageNoise, Prediction, QualityGuidance
from mmdiffdet.losses import QualityLoss
from mmdiffdet.models import StageContext
from mmdiffdet.models.parts import GeometryBias, GeometryFeature, LabelEmbedding, QualityHead
from mmdiffdet.models.parts.box_vector import box_vector, pair_vector

D = 8
# the first two overlap by a third, the third is 100 px wide and far away
BOXES = torch.tensor([[[0.0, 0, 10, 10], [5, 0, 15, 10], [200, 300, 300, 340]]])
SMALL = torch.tensor([[[0.0, 0, 2, 2], [3, 4, 5, 6]]])  # 5 px apart


def context(boxes=BOXES, t=0, features=None):
    if features is None:
        features = torch.zeros(1, boxes.size(1), D)
    return StageContext(features, boxes, torch.tensor([t]))


def reads(network, read):
    """Make a network of Linear, SiLU, Linear say SiLU(read(inputs)) in each output."""
    with torch.no_grad():
        for layer in (network[0], network[-1]):
            layer.weight.zero_()
            layer.bias.zero_()
        network[0].weight[0] = torch.tensor(read)
        network[-1].weight[:, 0] = 1


def test_box_vectors_have_log_sides_or_sides():
    x, y, w, h = box_vector(BOXES, use_log_wh=False)[0, 2].tolist()
    assert (x, y, w, h) == pytest.approx((0.25, 0.32, 0.1, 0.04))
    x, y, w, h = box_vector(BOXES)[0, 2].tolist()
    assert (x, y, w, h) == pytest.approx((0.25, 0.32, math.log(0.1), math.log(0.04)), rel=1e-4)


def test_pair_vectors_are_differences_and_iou():
    pair = pair_vector(BOXES, use_log_wh=False, include_iou=True)[0, 2, 0].tolist()
    assert pair == pytest.approx([0.245, 0.315, 0.09, 0.03, 0], abs=1e-6)
    pair = pair_vector(BOXES, use_log_wh=False, include_iou=True)[0, 0, 1].tolist()
    assert pair == pytest.approx([-0.005, 0, 0, 0, 1 / 3], abs=1e-6)
    assert pair_vector(BOXES).size(-1) == 4


def test_small_boxes_are_measured_with_min_norm():
    """dist / max(2, min_norm), over sigma, squared."""
    for min_norm, expected in ((0.0, -((5 / 2 / 2) ** 2)), (10.0, -((5 / 10 / 2) ** 2))):
        bias = GeometryBias(D, 3, mode='distance', min_norm=min_norm)
        assert float(bias(context(SMALL))[0, 0, 0, 1]) == pytest.approx(expected)


@pytest.mark.parametrize(
    'options, read, value',
    [
        (dict(include_iou=True), [0.0, 0, 0, 0, 3], 1.0),  # three times an IoU of 1/3
        (dict(use_log_wh=False), [0.0, 0, -100, 0], 9.0),  # of the far box, in 10 px
        (dict(), [0.0, 0, -1, 0], math.log(10)),
    ],
)
def test_the_bias_network_reads_what_its_options_say(options, read, value):
    bias = GeometryBias(D, 3, mode='mlp', **options)
    bias.init_weights()
    assert not bias(context()).any()
    reads(bias.mlp, read)
    pair = (0, 1) if 'include_iou' in options else (0, 2)
    expected = math.tanh(value / (1 + math.exp(-value)))
    found = bias(context())[0, 0]
    assert found[pair].item() == pytest.approx(expected, rel=1e-4)
    assert not found.diagonal().any()


def test_widths_of_hidden_layers():
    assert GeometryBias(D, 3, mode='mlp', hidden_dim=5).mlp[0].out_features == 5
    feature = GeometryFeature(D, 3, hidden_dim=5, relative=True)
    assert feature.absolute[0].out_features == feature.relative[0].out_features == 5
    assert QualityHead(D, 3, hidden_dim=5).mlp[0].out_features == 5


@pytest.mark.parametrize('use_log_wh, width', [(True, math.log(0.1)), (False, 0.1)])
def test_a_geometry_feature_reads_sides(use_log_wh, width):
    feature = GeometryFeature(
        D, 3, encoder='linear', use_log_wh=use_log_wh, schedule=dict(type='constant')
    )
    feature.init_weights()
    with torch.no_grad():
        feature.absolute[0].weight[:, 2] = 1
    term = feature(context())[0, 2]
    assert term.tolist() == pytest.approx([0.1 * 0.1 * math.tanh(width)] * D, rel=1e-4)


@pytest.mark.parametrize('norm', ['softmax', 'mean', 'none'])
def test_messages_are_weighed_by_their_norm(norm):
    """a of pair (0, 1) is tanh(SiLU(1)), as their IoU is a third; other pairs have 0."""
    feature = GeometryFeature(
        D,
        3,
        relative=True,
        relative_norm=norm,
        include_iou=True,
        use_log_wh=False,
        schedule=dict(type='constant'),
    )
    feature.init_weights()
    reads(feature.relative, [0.0, 0, 0, 0, 3])
    features = torch.tensor([1.0, 10, 100])[None, :, None].expand(1, 3, D)
    found = feature(context(features=features))[0, :, 0] / (0.1 * 0.1)
    a = math.tanh(1 / (1 + math.exp(-1)))
    if norm == 'softmax':
        e = math.exp(a)
        expected = [(10 * e + 100) / (e + 1), (e + 100) / (e + 1), (1 + 10) / 2]
    else:
        expected = [10 * a, a, 0]
        if norm == 'mean':
            expected = [x / 2 for x in expected]
    assert found.tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize('include_t', [True, False])
@pytest.mark.parametrize('use_log_wh, width', [(True, math.log(0.1)), (False, 0.1)])
def test_the_quality_head_reads_what_its_options_say(include_t, use_log_wh, width):
    head = QualityHead(D, 3, include_t=include_t, use_log_wh=use_log_wh)
    head.init_weights()
    assert head.mlp[0].in_features == D + 4 + include_t
    reads(head.mlp, [0.0] * D + [0, 0, 1, 0] + [0.5] * include_t)
    value = width + 0.5 * include_t * 333 / 999
    found = head(torch.zeros(1, 3, D), BOXES, torch.tensor([333]))[0, 2]
    assert found.item() == pytest.approx(value / (1 + math.exp(-value)), rel=1e-4)


def test_labels_are_relative_to_unknown():
    plain, relative = (LabelEmbedding(D, 3, relative_to_unk=on) for on in (False, True))
    for part in (plain, relative):
        part.init_weights()
        with torch.no_grad():
            part.proj.weight.copy_(torch.eye(D))
            part.embed.weight.copy_(torch.arange(4.0)[:, None].expand(4, D))
    state = torch.tensor([[0, 2, 3]])
    states = StageContext(torch.zeros(1, 3, D), BOXES, torch.tensor([0]), label_state=state)
    for part, expected in ((plain, [0, 2, 3]), (relative, [-3, -1, 0])):
        found = part(states)[0, :, 0] / (0.1 * 0.1)
        assert found.tolist() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize('loss_type', ['bce', 'l1', 'mse'])
def test_quality_losses(loss_type):
    logits, target = torch.tensor([0.0, math.log(3)]), torch.tensor([1.0, 0.25])  # 0.5, 0.75
    expected = dict(
        bce=-(math.log(0.5) + 0.25 * math.log(0.75) + 0.75 * math.log(0.25)) / 2,
        l1=(0.5 + 0.5) / 2,
        mse=0.25,
    )[loss_type]
    loss = QualityLoss(loss_type=loss_type, loss_weight=2.0)
    assert float(loss(logits, target)) == pytest.approx(2 * expected, rel=1e-5)


def prediction(batch):
    """The quality's logit is the left edge; scores are 0.75 and 0.25, logits apart."""
    logits = torch.tensor([[math.log(3)], [-math.log(3)]]).expand(batch, 2, 1)
    boxes = torch.tensor([[40.0, 40, 60, 60], [20.0, 20, 30, 30]]).expand(batch, 2, 4)
    return Prediction(boxes, logits, torch.zeros(batch, 2), lambda b: (b[..., 0] - 40) / 10)


def moved(batch=1, **options):
    given = prediction(batch)
    sizes = torch.full((batch, 2), 100.0)
    noise = PerImageNoise.from_seed(0, range(batch))
    guidance = QualityGuidance(5.0, topk=2, **options)
    return guidance(given, torch.tensor(0), True, sizes, noise)[0, :, 0] - given.boxes[0, :, 0]


@pytest.mark.parametrize('score_weight', [True, False])
def test_the_score_weighs_a_proposal(score_weight):
    """With one norm for the image, steps are shared out by weight times slope."""
    slopes = [p * (1 - p) for p in (0.5, 1 / (1 + math.exp(2)))]
    shares = [w * s for w, s in zip((0.75, 0.25) if score_weight else (1, 1), slopes)]
    expected = [5 * s / math.hypot(*shares) for s in shares]
    found = moved(score_weight=score_weight, grad_norm='global')
    assert found.tolist() == pytest.approx(expected, rel=1e-3)


def test_the_mean_over_a_batch_makes_a_step_shorter():
    """The gradient of the second proposal over two images: g / (g + 1e-6), g halved."""
    slope = 1 / (1 + math.exp(2)) * (1 - 1 / (1 + math.exp(2))) / 10
    g = slope * 0.25 / 2
    for batch_mean, part in ((False, g), (True, g / 2)):
        step = float(moved(batch=2, batch_mean=batch_mean)[1])
        assert step == pytest.approx(5 * part / (part + 1e-6), abs=2e-6)
    assert float(moved(2, batch_mean=True)[1]) < float(moved(2)[1])
    assert torch.equal(moved(1, batch_mean=True), moved(1))


def test_unknown_loss_is_told():
    with pytest.raises(ValueError, match="unknown loss_type 'huber'; choose from"):
        QualityLoss(loss_type='huber')
    assert float(QualityLoss()(torch.zeros(1), torch.ones(1))) == pytest.approx(
        float(F.softplus(torch.tensor(0.0)))
    )
