"""Losses: every branch by hand, gradients against finite differences, and what the forks do differently."""

import math

import numpy as np
import pytest
import torch

import caffe_compat as caffe
from caffe_compat.errors import NetError
from prototxt.blobs import BlobArray
from tests.caffe_compat.nets import inputs, net

H = np.array([[1.0, 0.5], [0, 2]])


def single(layer, *shapes, force="", **options):
    names = [f"x{i}" for i in range(len(shapes))]
    bottoms = " ".join(f'bottom: "{name}"' for name in names)
    text = f"{force} {inputs(**dict(zip(names, shapes, strict=True)))}\n"
    return net(text + f'layer {{ name: "l" {bottoms} top: "loss" {layer} }}', **options)


def run(layer, *arrays, **options):
    """The loss, and the gradients of the bottoms."""
    arrays = [np.asarray(array, np.float32) for array in arrays]
    built = single(layer, *(array.shape for array in arrays), force="force_backward: true", **options)
    loss = built.forward(**{f"x{i}": array for i, array in enumerate(arrays)})["loss"].copy()
    built._backward(len(built.layers) - 1, 0)
    return loss, [built.blobs[f"x{i}"].diff.copy() for i in range(len(arrays))]


def test_euclidean_teaches_both_bottoms():
    loss, (one, other) = run('type: "EuclideanLoss"', [[1, 2], [3, 4]], [[1, 0], [0, 4]])
    assert loss == (4 + 9) / 4
    assert one.tolist() == [[0, 1], [1.5, 0]] and other.tolist() == [[0, -1], [-1.5, 0]]


@pytest.mark.parametrize(
    ("norm", "loss", "diff"),
    [
        ("", (2 + 1.5 + 3) / 2, [[-0.5, 0.5, 0], [0.5, 0, 0]]),
        ("norm: L2", (4 + 2.25 + 9) / 2, [[-2, 1.5, 0], [3, 0, 0]]),
    ],
)
def test_hinge(norm, loss, diff):
    found, (got, labels) = run(f'type: "HingeLoss" hinge_loss_param {{ {norm} }}', [[-1, 0.5, -1], [2, -1, 1]], [0, 2])
    assert found == loss and got.tolist() == diff and not labels.any()


def test_multinomial_logistic_bounds_probabilities_from_below():
    loss, (diff, _) = run('type: "MultinomialLogisticLoss"', [[0.5, 0.5], [0, 1]], [1, 0])
    assert np.isclose(loss, (math.log(2) - math.log(1e-20)) / 2)
    assert np.allclose(diff, [[0, -1], [-0.5e20, 0]])


@pytest.mark.parametrize("dialect", ["segnet", "enet", "deeplab"])
def test_sigmoid_cross_entropy_knows_no_ignored_target_in_older_forks(dialect):
    text = 'type: "SigmoidCrossEntropyLoss" loss_param { ignore_label: 1 normalize: true }'
    loss, (diff, target) = run(text, [[0, 100], [0, -100]], [[0, 1], [0.5, 0]], dialect=dialect)
    assert np.isclose(loss, math.log(2)) and diff.tolist() == [[0.25, 0], [0, 0]] and not target.any()


@pytest.mark.parametrize(
    ("param", "divisor"),
    [
        ("", 2),
        ("normalization: BATCH_SIZE", 2),
        ("normalization: FULL", 4),
        ("normalization: VALID", 3),
        ("normalization: NONE", 1),
        ("normalize: true", 3),
        ("normalize: false", 2),
    ],
)
@pytest.mark.parametrize("dialect", ["bvlc", "crf"])
def test_sigmoid_cross_entropy_of_newer_forks(param, divisor, dialect):
    text = f'type: "SigmoidCrossEntropyLoss" loss_param {{ ignore_label: -1 {param} }}'
    loss, (diff, _) = run(text, [[0, 0], [0, 3]], [[0, 1], [1, -1]], dialect=dialect)
    assert np.isclose(loss, 3 * math.log(2) / divisor)
    assert np.allclose(diff * divisor, [[0.5, -0.5], [-0.5, 0]])


@pytest.mark.parametrize(
    ("param", "dissimilar", "push"),
    [("", (2 - 0.5) ** 2, -1.5 / 0.5001), ("legacy_version: true", 2 - 0.25, -1)],
)
def test_contrastive(param, dissimilar, push):
    pairs = [[1, 0], [0.5, 0], [9, 0], [0, 0]], np.zeros((4, 2)), [1.9, 0, 0.5, 0]  # 0.5 is 0: Caffe truncates
    loss, (a, b, _) = run(f'type: "ContrastiveLoss" contrastive_loss_param {{ margin: 2 {param} }}', *pairs)
    assert np.isclose(loss, (1 + dissimilar + (2 if "legacy" in param else 4)) / 8)
    assert np.allclose(a, np.array([[1, 0], [0.5 * push, 0], [0, 0], [0, 0]]) / 4) and np.array_equal(a, -b)


def infogain_by_hand(probability, labels, floor=0.0):
    return -sum(H[label] @ np.log(np.maximum(p, floor)) for p, label in zip(probability, labels, strict=True))


def test_infogain_of_older_forks_takes_probabilities():
    p, labels = np.array([[0.25, 0.75], [1, 0]]), [0, 1]
    loss, (diff, _, weights) = run('type: "InfogainLoss"', p, labels, H[None, None])
    assert np.isclose(loss, infogain_by_hand(p, labels, 1e-20) / 2)
    assert np.allclose(diff, [[-2, -0.5 / 1.5], [0, -1e20]]) and not weights.any()


def test_infogain_weights_from_a_file(tmp_path):
    (tmp_path / "h.binaryproto").write_bytes(b"".join(BlobArray(H[None, None].astype("f4")).pieces("segnet")))
    text = f'type: "InfogainLoss" infogain_loss_param {{ source: "{tmp_path}/h.binaryproto" }}'
    p, labels = np.array([[0.25, 0.75], [0.5, 0.5]]), [0, 1]
    assert np.isclose(run(text, p, labels)[0], infogain_by_hand(p, labels) / 2)


@pytest.mark.parametrize(
    ("param", "divisor"),
    [("", 5), ("normalization: FULL", 6), ("normalization: BATCH_SIZE", 1), ("normalization: NONE", 1)],
)
@pytest.mark.parametrize("axis", [1, -1])
def test_infogain_of_newer_forks_takes_scores(param, divisor, axis):
    scores = np.random.default_rng(0).normal(size=(1, 2, 2, 3))
    labels = np.array([[[0, 1, 1], [7, 0, 1]]])
    text = f'type: "InfogainLoss" infogain_loss_param {{ axis: {axis} }} loss_param {{ ignore_label: 7 {param} }}'
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    places = [(i, j) for i in range(2) for j in range(3) if labels[0, i, j] != 7]
    given = scores if axis == 1 else scores.transpose(0, 2, 3, 1)
    if axis == -1:  # BATCH_SIZE counts everything before the axis
        divisor = 6 if "BATCH_SIZE" in param else divisor
    loss, (diff, _, _) = run(text, given, labels, H[None, None], dialect="bvlc")
    by_hand = infogain_by_hand([p[0, :, i, j] for i, j in places], [labels[0, i, j] for i, j in places])
    assert np.isclose(loss, by_hand / divisor)
    diff = diff if axis == 1 else diff.transpose(0, 3, 1, 2)
    for i, j in places:
        row = H[labels[0, i, j]]
        assert np.allclose(diff[0, :, i, j], (p[0, :, i, j] * row.sum() - row) / divisor, atol=1e-6)
    assert not diff[0, :, 1, 0].any()


def test_infogain_shows_the_softmax_where_a_second_top_is_named():
    text = inputs(x=(1, 2), label=(1,), h=(1, 1, 2, 2))
    text += 'layer { name: "l" type: "InfogainLoss" bottom: "x" bottom: "label" bottom: "h" top: "loss" top: "p" }'
    p = net(text, dialect="bvlc").forward(x=np.log([[1.0, 3]]), label=np.array([0]), h=H[None, None])["p"]
    assert np.allclose(p, [[0.25, 0.75]])


def test_softmax_loss_of_grouped_channels():
    scores, labels = np.random.default_rng(0).normal(size=(2, 5, 1, 3)), np.array([[[[0, 1, 255]]], [[[1, 0, 0]]]])
    text = 'type: "RedSoftmaxWithLoss" red_softmax_loss_param { class_num: 2 } loss_param { ignore_label: 255 }'
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    group = np.where(labels == 0, p[:, :2].sum(1, keepdims=True), p[:, 2:].sum(1, keepdims=True))
    member = (np.arange(5) < 2)[None, :, None, None] == (labels == 0)  # 5 channels for 2 classes: two and three
    loss, (diff, _) = run(text, scores, labels, dialect="deconvnet")
    assert loss.shape == (1, 1, 1, 1) and np.isclose(loss, -np.log(group[labels != 255]).mean())
    assert np.allclose(diff, np.where(labels == 255, 0, p - np.where(member, p / group, 0)) / 5, atol=1e-6)


def test_softmax_loss_of_grouped_channels_shows_the_softmax_of_all():
    text = (
        inputs(x=(1, 3, 1, 1), label=(1, 1, 1, 1))
        + """
layer { name: "l" type: "RedSoftmaxWithLoss" bottom: "x" bottom: "label" top: "loss" top: "p"
  red_softmax_loss_param { class_num: 1 } }"""
    )
    tops = net(text, dialect="deconvnet").forward(x=np.zeros((1, 3, 1, 1)), label=np.zeros((1, 1, 1, 1)))
    assert tops["loss"] == 0 and np.allclose(tops["p"], 1 / 3)


@pytest.mark.parametrize(
    ("dialect", "shape", "loss"),
    [("segnet", (), math.nan), ("deconvnet", (1, 1, 1, 1), math.nan), ("bvlc", (), 0), ("deeplab", (), 0)],
)
def test_softmax_loss_where_every_label_is_ignored(dialect, shape, loss):
    text = 'type: "SoftmaxWithLoss" loss_param { ignore_label: 9 }'
    found, (diff, _) = run(text, np.zeros((1, 2, 1, 1)), np.full((1, 1, 1, 1), 9), dialect=dialect)
    assert found.shape == shape and np.array_equal(found.item(), loss, equal_nan=True)
    assert np.isnan(diff).all() if math.isnan(loss) else not diff.any()


@pytest.mark.parametrize(
    ("layer", "shapes", "labels", "dialect"),
    [
        ('type: "EuclideanLoss"', [(2, 3), (2, 3)], None, "segnet"),
        ('type: "HingeLoss" hinge_loss_param { norm: L2 }', [(2, 3), (2,)], [0, 2], "segnet"),
        ('type: "MultinomialLogisticLoss"', [(2, 3), (2,)], [0, 2], "segnet"),
        ('type: "SigmoidCrossEntropyLoss"', [(2, 3), (2, 3)], [[0, 1, 0.5], [1, 0, 0.25]], "segnet"),
        ('type: "InfogainLoss"', [(2, 2), (2,), (2, 2)], [0, 1], "segnet"),
        ('type: "InfogainLoss"', [(2, 2), (2,), (2, 2)], [0, 1], "bvlc"),
        (
            'type: "RedSoftmaxWithLoss" red_softmax_loss_param { class_num: 2 }',
            [(1, 5, 1, 2), (1, 1, 1, 2)],
            [[[[0, 1]]]],
            "deconvnet",
        ),
    ],
)
def test_gradients_agree_with_finite_differences(layer, shapes, labels, dialect):
    torch.manual_seed(0)
    module = single(layer, *shapes, dialect=dialect).layer["l"].double()
    x = (torch.rand(shapes[0], dtype=torch.float64) + 0.1).requires_grad_()
    other = torch.rand(shapes[1], dtype=torch.float64) if labels is None else torch.tensor(labels, dtype=torch.float64)
    rest = [torch.tensor(H)] if len(shapes) == 3 else []
    assert torch.autograd.gradcheck(lambda x: module(x, other, *rest), (x,))


@pytest.mark.parametrize(
    ("layer", "arrays", "said"),
    [
        ('type: "HingeLoss"', [np.zeros((2, 3)), [0, 3]], r"3 \(1 times\); expected 0 to 2\. Mend the labels"),
        ('type: "MultinomialLogisticLoss"', [np.ones((1, 3)), [-1]], r"-1 \(1 times\).*in item 0"),
        ('type: "InfogainLoss"', [np.ones((1, 2)), [2], H], r"2 \(1 times\)"),
    ],
)
def test_label_outside_the_classes(layer, arrays, said):
    with pytest.raises(NetError, match=said):
        run(layer, *arrays)


@pytest.mark.parametrize(
    ("layer", "shapes", "said"),
    [
        ('type: "EuclideanLoss"', [(2, 3), (2, 4)], "expected as many items and as many values"),
        ('type: "HingeLoss"', [(2, 3), (2, 2)], "expected one label for each item"),
        ('type: "ContrastiveLoss"', [(2, 3, 2), (2, 3, 2), (2,)], r"expected two of the shape \(N, C\)"),
        ('type: "ContrastiveLoss"', [(2, 3), (2, 3), (3,)], r"similarities \(3,\); expected one for each pair"),
        ('type: "InfogainLoss"', [(2, 3), (2,)], "neither a third bottom nor"),
        ('type: "InfogainLoss" infogain_loss_param { source: "no.file" }', [(2, 3), (2,)], "'no.file' does not exist"),
        ('type: "InfogainLoss"', [(2, 3), (2,), (2, 2)], r"weights \(2, 2\) for 3 classes"),
        (
            'type: "RedSoftmaxWithLoss" red_softmax_loss_param { class_num: 4 }',
            [(1, 3, 1, 1), (1, 1, 1, 1)],
            "`class_num: 4` for 3 channels; expected 1 to 3",
        ),
    ],
)
def test_wrong_settings(layer, shapes, said):
    with pytest.raises(NetError, match=said):
        single(layer, *shapes)


@pytest.mark.parametrize(
    ("shapes", "param", "said"),
    [
        ([(2, 3), (3,), (3, 3)], "", "expected 2 labels"),
        ([(2, 3), (2,), (3, 3)], "normalize: true", "`normalize` is given"),
    ],
)
def test_wrong_settings_of_the_newer_infogain(shapes, param, said):
    with pytest.raises(NetError, match=said):
        single(f'type: "InfogainLoss" loss_param {{ {param} }}', *shapes, dialect="bvlc")


def test_damaged_file_of_infogain_weights(tmp_path):
    (tmp_path / "h").write_bytes(b"\x2a\x03abc")
    with pytest.raises(NetError, match="multiple of 4"):
        single(f'type: "InfogainLoss" infogain_loss_param {{ source: "{tmp_path}/h" }}', (2, 3), (2,))


def test_loss_in_a_torch_module_learns_without_force_backward():
    built = single('type: "SigmoidCrossEntropyLoss"', (2, 3), (2, 3), phase=caffe.TRAIN)
    x = torch.zeros(2, 3, requires_grad=True)
    built(x0=x, x1=torch.ones(2, 3))["loss"].backward()
    assert torch.equal(x.grad, torch.full((2, 3), -0.25))
