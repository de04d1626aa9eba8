"""DeepLab's layers for weak supervision, by hand."""

import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from tests.caffe_compat.nets import inputs, net

PADDED = np.array([[2, 0, -1]]).reshape(1, 3, 1, 1)


def single(layer, *shapes):
    names = [f"x{i}" for i in range(len(shapes))]
    bottoms = " ".join(f'bottom: "{name}"' for name in names)
    text = inputs(**dict(zip(names, shapes, strict=True)))
    return net(f'force_backward: true {text}\nlayer {{ name: "l" {bottoms} top: "y" {layer} }}')


def run(layer, *arrays):
    built = single(layer, *(np.shape(array) for array in arrays))
    return built.forward(**{f"x{i}": array for i, array in enumerate(arrays)})["y"].copy()


def test_labels_of_an_image():
    labels = np.array([[3, 255, 1, 3], [7, 7, 255, 7]], np.float32).reshape(2, 1, 2, 2)
    text = 'type: "UniqueLabel" unique_label_param { max_labels: 4 ignore_label: 255 force_label: 0 force_label: 7 }'
    assert run(text, labels).reshape(2, 4).tolist() == [[0, 1, 3, 7], [0, 7, -1, -1]]
    with pytest.raises(NetError, match="item 0 has 4 labels; expected at most `max_labels: 3`"):
        run(text.replace("max_labels: 4", "max_labels: 3"), labels)


def test_bias_for_the_labels_of_an_image():
    text = 'type: "BiasChannel" bias_channel_param { bg_bias: 1 fg_bias: 10 ignore_label: 7 }'
    labels = np.array([0, 2, 2, -1, 7]).reshape(1, 5, 1, 1)  # a label that is listed twice counts twice
    assert run(text, np.zeros((1, 3, 1, 2)), labels)[0, :, 0].tolist() == [[1, 1], [0, 0], [20, 20]]


@pytest.mark.parametrize(
    ("param", "y"),
    [
        ("", [[10, 0, 0, 0], [0, 10, 0, 0], [0, 0, 10, 0]]),
        ("bg_bias: 1", [[1, 1, 1, 0], [0, 10, 0, 0], [0, 0, 10, 0]]),
        ("background_label: 1 bg_bias: 1", [[10, 0, 0, 0], [1, 1, 1, 0], [0, 0, 10, 0]]),
    ],
)
def test_bias_for_the_labels_of_pixels(param, y):
    text = f'type: "BiasChannel" bias_channel_param {{ label_type: PIXEL fg_bias: 10 ignore_label: 255 {param} }}'
    labels = np.array([0, 1, 2, 255]).reshape(1, 1, 1, 4)
    assert run(text, np.zeros((1, 3, 1, 4)), labels)[0, :, 0].tolist() == y


def test_gradients_pass_a_bias():
    built = single('type: "BiasChannel"', (1, 3, 1, 2), (1, 3, 1, 1))
    built.forward(x0=np.zeros((1, 3, 1, 2)), x1=PADDED)
    diffs = built.backward(y=np.arange(6.0).reshape(1, 3, 1, 2))
    assert diffs["x0"].ravel().tolist() == list(range(6)) and not diffs["x1"].any()


def adaptive(param, scores, labels):
    return run(f'type: "AdaptiveBiasChannel" adaptive_bias_channel_param {{ {param} }}', scores, labels)


def test_adaptive_bias_reaches_the_portions():
    scores = np.array([[0, 0, 0, 0], [5, 5, 5, 5], [4, 3, 2, 1]], float)[None, :, None]
    y = adaptive("bg_portion: 0.25 fg_portion: 0.5 suppress_others: false", scores, PADDED)[0, :, 0]
    # Highest of classes 0 and 2: 4 3 2 1. Class 0 lacks 4 3 2 1 and gets 2, the second least: 2 2 2 2; the highest is
    # now 4 3 2 2, so class 2 lacks 0 0 0 1 and gets the third least, 0. The mean of the highest was 2.5, is 2.75.
    assert np.allclose(y, np.array([[2] * 4, [5] * 4, [4, 3, 2, 1]]) - 0.25)


def test_adaptive_bias_puts_other_classes_below():
    scores = np.array([[0, 0], [5, -5], [4, 3]], float)[None, :, None]
    y = adaptive("bg_portion: 0 fg_portion: 0 margin_others: 0.5", scores, PADDED)[0, :, 0]
    # class 1 lies below the lowest of classes 0 and 2 where it did not before; class 0 gets the least it lacks, 3
    assert np.allclose(y, [[3, 3], [-0.5, -5], [4, 3]])


def test_adaptive_bias_shuffles_all_but_the_background():
    scores = np.random.default_rng(0).normal(size=(1, 4, 5, 5))
    labels = np.array([0, 1, 2, 3]).reshape(1, 4, 1, 1)
    seen = set()
    for seed in range(20):
        torch.manual_seed(seed)
        seen.add(adaptive("num_iter: 2 fg_portion: 0.7", scores, labels).tobytes())
    assert 1 < len(seen) <= 36  # two orders of three labels


def test_adaptive_bias_leaves_an_image_without_labels_alone():
    scores = np.random.default_rng(0).normal(size=(1, 3, 2, 2)).astype(np.float32)
    assert np.array_equal(adaptive("", scores, np.full((1, 3, 1, 1), -1)), scores)


def test_label_outside_the_classes():
    with pytest.raises(NetError, match=r"3 \(1 times\); expected 0 to 2\. Name .* `bias_channel_param"):
        run('type: "BiasChannel"', np.zeros((1, 3, 1, 1)), np.full((1, 1, 1, 1), 3))
    with pytest.raises(NetError, match=r"3 \(1 times\); expected 0 to 2\. Mend"):
        adaptive("", np.zeros((1, 3, 1, 1)), np.full((1, 1, 1, 1), 3))


@pytest.mark.parametrize(
    ("layer", "shapes", "said"),
    [
        ('type: "UniqueLabel" unique_label_param { max_labels: 1 force_label: 0 }', [(1, 1, 2, 2)], "expected more"),
        ('type: "UniqueLabel" unique_label_param { max_labels: 1 }', [(1, 2, 2, 2)], "expected one channel"),
        ('type: "BiasChannel" bias_channel_param { fg_bias: -1 }', [(1, 2, 2, 2), (1, 1, 1, 1)], "none below 0"),
        ('type: "BiasChannel"', [(1, 2, 2, 2), (1, 1, 2, 2)], r"expected labels \(1, L, 1, 1\)"),
        (
            'type: "BiasChannel" bias_channel_param { label_type: PIXEL background_label: 2 }',
            [(1, 2, 2, 2), (1, 1, 2, 2)],
            "`background_label: 2` for 2 classes",
        ),
        (
            'type: "AdaptiveBiasChannel" adaptive_bias_channel_param { num_iter: 0 }',
            [(1, 2, 2, 2), (1, 1, 1, 1)],
            "expected at least 1",
        ),
        (
            'type: "AdaptiveBiasChannel" adaptive_bias_channel_param { fg_portion: 2 }',
            [(1, 2, 2, 2), (1, 1, 1, 1)],
            "from 0 to 1",
        ),
    ],
)
def test_wrong_settings(layer, shapes, said):
    with pytest.raises(NetError, match=said):
        single(layer, *shapes)
