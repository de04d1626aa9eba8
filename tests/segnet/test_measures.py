import numpy as np
import pytest
import torch

from prototxt.errors import CaffeError
from segnet.measures import Confusion
from tests.shared import SHARED, needs_shared

# four classes, of which 3 does not occur; 4 is void
TRUTH = np.array([[0, 0, 0, 1], [1, 2, 4, 4]], np.uint8)
PREDICTION = np.array([[0, 0, 1, 1], [3, 2, 0, 1]], np.uint8)


def counted(truth=TRUTH, prediction=PREDICTION, classes=4, **options):
    confusion = Confusion(classes, **options)
    confusion.add(truth, prediction)
    return confusion


def test_rows_are_the_truth_and_void_does_not_count():
    expected = [[2, 1, 0, 0], [0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert counted().matrix.tolist() == expected
    assert counted(torch.tensor(TRUTH), torch.tensor(PREDICTION).float()).matrix.tolist() == expected
    assert counted(TRUTH[:, ::-1], PREDICTION[:, ::-1]).matrix.tolist() == expected


def test_images_add_up():
    confusion = counted()
    confusion.add(TRUTH[None], PREDICTION[None])
    assert confusion.matrix.sum() == 12


def test_tutorial_counts_an_absent_class_as_zero():
    found = counted().measures()
    assert found.global_accuracy == pytest.approx(4 / 6)
    assert found.accuracies == pytest.approx([2 / 3, 1 / 2, 1, np.nan], nan_ok=True)
    assert found.ious == pytest.approx([2 / 3, 1 / 3, 1, np.nan], nan_ok=True)
    assert found.class_accuracy == pytest.approx((2 / 3 + 1 / 2 + 1) / 4)
    assert found.mean_iou == pytest.approx((2 / 3 + 1 / 3 + 1) / 4)


def test_usual_leaves_an_absent_class_out():
    found = counted().measures("usual")
    assert found.class_accuracy == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert found.mean_iou == pytest.approx((2 / 3 + 1 / 3 + 1 + 0) / 4)  # class 3 was predicted, though it is not there
    assert found.ious[3] == 0
    found = counted(prediction=np.where(PREDICTION == 3, 0, PREDICTION)).measures("usual")
    assert found.mean_iou == pytest.approx((2 / 4 + 1 / 3 + 1) / 3)


def test_predictions_that_are_no_class_are_wrong():
    confusion = counted(prediction=np.where(PREDICTION == 3, 4, PREDICTION))
    assert confusion.unnamed.tolist() == [0, 1, 0, 0]
    tutorial, usual = confusion.measures(), confusion.measures("usual")
    assert tutorial.global_accuracy == usual.global_accuracy == pytest.approx(4 / 6)
    assert tutorial.accuracies[1] == 1 and usual.accuracies[1] == 1 / 2
    assert tutorial.ious[1] == 1 / 2 and usual.ious[1] == 1 / 3


def test_a_class_may_be_void():
    confusion = counted(void={0, 4})
    assert confusion.matrix.tolist() == [[0] * 4, [0, 1, 0, 1], [0, 0, 1, 0], [0] * 4]
    found = confusion.measures()
    assert found.global_accuracy == 2 / 3
    assert found.class_accuracy == pytest.approx((1 / 2 + 1 + 0) / 3)


def test_nothing_counted_has_no_measures():
    found = counted(np.full((2, 2), 4), np.zeros((2, 2))).measures("usual")
    assert np.isnan([found.global_accuracy, found.class_accuracy, found.mean_iou]).all()


def test_errors():
    with pytest.raises(CaffeError, match=r"255 \(2 times\); expected 0 to 3, or void: 4"):
        counted(np.where(TRUTH == 4, 255, TRUTH))
    with pytest.raises(CaffeError, match=r"\(1, 2, 4\) and predictions of the shape \(2, 4\)"):
        counted(TRUTH[None])
    with pytest.raises(CaffeError, match="'mean'; expected one of tutorial, usual"):
        counted().measures("mean")


@needs_shared
def test_measures_of_the_recorded_confusion():
    recorded = np.load(SHARED / "models" / "segnet_basic_96x128" / "predictions_val.npz")
    confusion = Confusion(11)
    confusion.matrix += recorded["confusion"]
    found = confusion.measures()
    assert found.global_accuracy == pytest.approx(float(recorded["global_accuracy"]), abs=1e-12)
    assert found.class_accuracy == pytest.approx(float(recorded["class_average"]), abs=1e-12)
    assert found.mean_iou == pytest.approx(float(recorded["mean_iou"]), abs=1e-12)
    assert [round(value, 4) for value in found[:3]] == [0.6136, 0.6416, 0.3919]
