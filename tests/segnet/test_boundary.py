import numpy as np
import pytest

from prototxt.errors import CaffeError
from segnet.boundary import boundary_f1, mean_boundary_f1, outline


def split_at(column, height=8, width=20):
    """Class 0 on the left, class 1 from a column on."""
    labels = np.zeros((height, width), np.uint8)
    labels[:, column:] = 1
    return labels


def at_pixels(pixels, height, width):
    """A tolerance of so many pixels, as a share of the diagonal."""
    return pixels / np.hypot(height, width)


def test_outline_lies_at_the_upper_left_of_each_border():
    region = np.zeros((4, 5), bool)
    region[1:3, 2] = True
    assert outline(region).astype(int).tolist() == [
        [0, 1, 1, 0, 0],
        [0, 1, 1, 0, 0],
        [0, 1, 1, 0, 0],
        [0, 0, 0, 0, 0],
    ]


def test_the_frame_is_no_outline_but_borders_reach_it():
    region = np.zeros((3, 3), bool)
    region[2, 2] = True
    assert outline(region).astype(int).tolist() == [[0, 0, 0], [0, 1, 1], [0, 1, 0]]
    assert not outline(np.ones((3, 3), bool)).any()


def test_within_the_tolerance_all_is_right_and_beyond_all_is_wrong():
    for distance, expected in ((2, 1.0), (3, 0.0)):
        scores = boundary_f1(split_at(8), split_at(8 + distance), 2, tolerance=at_pixels(2.5, 8, 20))
        assert scores.tolist() == [expected] * 2


def test_distance_is_euclidean():
    truth, prediction = np.zeros((2, 24, 24), np.uint8)
    truth[10, 10] = prediction[13, 14] = 1
    # the outlines are 2×2 pixels each; theirs are √13, √18, √20 and 5 away from the nearest of ours
    for pixels, expected in ((5, 1), (4.9, 3 / 4), (4.4, 2 / 4), (4.2, 1 / 4), (3.6, 0)):
        assert boundary_f1(truth, prediction, 2, tolerance=at_pixels(pixels, 24, 24))[1] == expected


def test_default_tolerance():
    truth = split_at(8, 36, 48)  # a diagonal of 60: 0.45 pixels
    assert boundary_f1(truth, split_at(8, 36, 48), 2).tolist() == [1, 1]
    assert boundary_f1(truth, split_at(9, 36, 48), 2).tolist() == [0, 0]


def test_f1_of_precision_and_recall():
    truth = split_at(8)
    prediction = split_at(8)
    prediction[:, 16:] = 0  # a second border that is not in the truth: precision 1/2, recall 1
    assert boundary_f1(truth, prediction, 2).tolist() == pytest.approx([2 / 3, 2 / 3])
    assert boundary_f1(prediction, truth, 2).tolist() == pytest.approx([2 / 3, 2 / 3])


def test_classes_without_outline_in_the_truth():
    truth, prediction = split_at(8), split_at(8)
    prediction[2:5, 14:17] = 2
    scores = boundary_f1(truth, prediction, 4)
    assert scores[0] == 1 and 0.5 < scores[1] < 1 and np.isnan(scores[2:]).all()
    scores = boundary_f1(truth, prediction, 4, either=True)
    assert scores[2] == 0 and np.isnan(scores[3])
    assert boundary_f1(prediction, truth, 4)[2] == 0


def test_void_pixels_of_the_truth_do_not_count():
    truth, prediction = split_at(8), split_at(8)
    prediction[:, 16:] = 0
    truth[:, 14:] = 255
    assert boundary_f1(truth, prediction, 2, {255})[0] == 1  # the second border lies on void pixels
    assert np.isnan(boundary_f1(truth, prediction, 2, {0, 255})[0])  # a void class has no score


def test_mean_is_over_classes_then_over_images():
    nan = np.nan
    assert mean_boundary_f1([[1, 0.5, nan], [0.25, nan, nan], [nan, nan, nan]]) == pytest.approx((0.75 + 0.25 + 0) / 3)


def test_error_for_shapes():
    with pytest.raises(CaffeError, match=r"\(1, 8, 20\).*expected one \(H, W\)"):
        boundary_f1(split_at(8)[None], split_at(8)[None], 2)
