"""Accuracy in the forks, and DeepLab's and DeconvNet's own measures, by hand."""

import math

import numpy as np
import pytest

from caffe_compat.errors import NetError
from tests.caffe_compat.nets import inputs, net


def single(layer, scores, labels, **options):
    text = inputs(x=np.shape(scores), label=np.shape(labels))
    return net(text + f'\nlayer {{ name: "l" bottom: "x" bottom: "label" top: "y" {layer} }}', **options)


def run(layer, scores, labels, **options):
    built = single(layer, scores, labels, **options)
    return built.forward(x=np.asarray(scores), label=np.asarray(labels))["y"].copy()


def pixels(*columns):
    """Scores (1, K, 1, W) from the K scores of each pixel."""
    return np.array(columns, np.float32).T[None, :, None, :]


def labelled(*labels):
    return np.array(labels, np.float32)[None, None, None]


@pytest.mark.parametrize(
    ("param", "labels", "accuracy"),
    [
        ("", labelled(0, 1, 0, 7), 1 / 4),  # 7 is no class: counted as wrong
        ("ignore_label: 7", labelled(0, 1, 0, 7), 1 / 3),
        ("top_k: 2", labelled(0, 1, 0, 2), 3 / 4),
        ("ignore_label: 7", labelled(7, 7, 7, 7), math.nan),
    ],
)
def test_accuracy_of_pixels_in_deconvnet(param, labels, accuracy):
    scores = pixels([1, 1, 0], [0, 2, 1], [1, 0, 2], [3, 1, 0])  # of the tie in the first pixel the larger class wins
    y = run(f'type: "EltwiseAccuracy" eltwise_accuracy_param {{ {param} }}', scores, labels, dialect="deconvnet")
    assert y.shape == (1, 1, 1, 1) and np.isclose(y.item(), accuracy, equal_nan=True)


@pytest.mark.parametrize(("dialect", "shape"), [("segnet", ()), ("deconvnet", (1, 1, 1, 1))])
def test_single_values_have_four_axes_in_deconvnet(dialect, shape):
    assert run('type: "Accuracy"', np.eye(2), [0, 1], dialect=dialect).shape == shape


def test_accuracy_of_grouped_channels():
    scores = np.log(pixels([0.4, 0.3, 0.3], [0.6, 0.2, 0.2], [0.4, 0.3, 0.3]))  # class 0 has one channel, class 1 two
    text = 'type: "RedAccuracy" red_accuracy_param { class_num: 2 ignore_label: 9 }'
    assert np.isclose(run(text, scores, labelled(1, 0, 9)).item(), 1)
    assert np.isclose(run(text, scores, labelled(0, 0, 1)).item(), 2 / 3)


@pytest.mark.parametrize(
    ("mode", "value"),
    [
        ("Accuracy", 3 / 6),
        ("Precision", 1 / 2),
        ("Recall", 1 / 3),
        ("F_measure", 2 * (1 / 2) * (1 / 3) / (1 / 2 + 1 / 3)),
    ],
)
def test_binary_accuracy(mode, value):
    scores, labels = [[5, 0.1, 0, -1, -2, -3, 4]], [[1, 0, 1, 1, 0, 0, 255]]  # 255 is not counted
    y = run(f'type: "BinaryAccuracy" binary_accuracy_param {{ accuracy_mode: {mode} }}', scores, labels)
    assert np.isclose(y.item(), value)


def test_binary_accuracy_without_any_hit_is_no_number():
    text = 'type: "BinaryAccuracy" binary_accuracy_param { accuracy_mode: F_measure }'
    assert math.isnan(run(text, [[-1]], [[1]]).item())


SCORES = pixels([1, 0, 0, 0], [1, 1, 0, 0], [0, 2, 0, 0], [3, 0, 0, 0], [3, 0, 0, 0])  # predicted: 0 1 1 0 0
LABELS = labelled(0, 0, 1, 2, 255)


def test_segmentation_accuracy():
    y = run('type: "SegAccuracy" seg_accuracy_param { ignore_label: 255 }', SCORES, LABELS)
    # classes 0, 1, 2 occur with recalls 1/2, 1, 0; overlaps 1/3, 1/2, 0, and 1 for class 3 that is nowhere
    assert y.shape == (1, 1, 1, 3)
    assert np.allclose(y.ravel(), [2 / 4, 1.5 / 3, (1 / 3 + 1 / 2 + 0 + 1) / 4])


@pytest.mark.parametrize(
    ("reset", "y"), [("true", [0, 0, 2 / 4]), ("false", [2 / 5, 1.5 / 3, (1 / 4 + 1 / 2 + 1) / 4])]
)
def test_segmentation_accuracy_gathers_passes(reset, y):
    text = f'type: "SegAccuracy" seg_accuracy_param {{ ignore_label: 255 reset: {reset} }}'
    built = single(text, SCORES, LABELS)
    built.forward(x=SCORES, label=LABELS)
    # one more pixel of class 2, again taken for class 0
    assert np.allclose(built.forward(x=SCORES, label=labelled(255, 255, 255, 2, 255))["y"].ravel(), y)


def test_segmentation_accuracy_of_nothing():
    y = run('type: "SegAccuracy" seg_accuracy_param { ignore_label: 255 }', SCORES, labelled(*[255] * 5))
    assert y.ravel().tolist() == [0, 0, 1]


def test_label_outside_the_classes_of_segmentation_accuracy():
    with pytest.raises(NetError, match=r"255 \(1 times\).*`seg_accuracy_param { ignore_label: 255 }`"):
        run('type: "SegAccuracy"', SCORES, LABELS)


@pytest.mark.parametrize(
    ("layer", "labels", "said"),
    [
        ('type: "SegAccuracy"', (1, 5), r"expected labels \(1, 1, 1, 5\)"),
        ('type: "BinaryAccuracy"', (1, 5), "expected the same shape"),
        ('type: "EltwiseAccuracy" eltwise_accuracy_param { top_k: 5 }', (1, 1, 1, 5), "expected 1 to 4"),
        ('type: "RedAccuracy" red_accuracy_param { class_num: 0 }', (1, 1, 1, 5), "expected 1 to 4"),
    ],
)
def test_wrong_settings(layer, labels, said):
    with pytest.raises(NetError, match=said):
        single(layer, SCORES, np.zeros(labels))
