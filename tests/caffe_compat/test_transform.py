import numpy as np
import pytest

from caffe_compat.data.images import read_image
from caffe_compat.data.lists import read_labelled
from caffe_compat.data.transform import Transform, load_mean
from caffe_compat.errors import LayerError
from prototxt.caffe_pb2 import TEST, TRAIN, BlobProto, TransformationParameter
from prototxt.errors import FormatError, MissingFileError
from tests.caffe_compat.golden_data import GOLDEN, layer_of

IMAGE = np.random.default_rng(2).integers(0, 256, (12, 9, 3), dtype=np.uint8)
MEAN = np.random.default_rng(3).random((3, 12, 9), dtype=np.float32)


def transform(phase=TEST, mean=None, **fields):
    return Transform(TransformationParameter(**fields), phase, mean)


def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("case", ["image_center_crop", "image_mean_file"])
def test_recorded(case):
    param = layer_of(case).transform_param
    apply = Transform(param, TEST, load_mean(GOLDEN / param.mean_file) if param.mean_file else None)
    images = [apply(read_image(GOLDEN / name), rng()) for name, _ in read_labelled(GOLDEN / "class.txt")]
    with np.load(GOLDEN / f"{case}.npz") as want:
        for batch in range(4):
            got = np.stack([images[i % 5] for i in (2 * batch, 2 * batch + 1)])
            np.testing.assert_allclose(got, want[f"batch{batch}:data"], rtol=0, atol=1e-4)


def test_grey_and_nothing_to_do():
    assert np.array_equal(transform()(IMAGE[:, :, 0], rng()), IMAGE[None, :, :, 0])


def test_mean_of_the_place_of_the_crop_and_scale():
    result = transform(TRAIN, MEAN, crop_size=5, mirror=True, scale=0.5)
    whole = (IMAGE.transpose(2, 0, 1) - MEAN) * np.float32(0.5)
    windows = np.lib.stride_tricks.sliding_window_view(whole, (5, 5), (1, 2))
    draw, seen = rng(), set()
    for _ in range(1000):
        crop = result(IMAGE, draw)
        for mirrored in (False, True):
            same = (windows == crop[:, None, None, :, :: -1 if mirrored else 1]).all((0, 3, 4))
            seen |= {(*place, mirrored) for place in np.argwhere(same).tolist()}
    assert len(seen) == 8 * 5 * 2  # every place, mirrored and not


def test_test_phase_crops_the_middle():
    assert np.array_equal(transform(crop_size=4)(IMAGE, rng()), IMAGE[4:8, 2:6].transpose(2, 0, 1))


@pytest.mark.parametrize("values", [[10], [10, 20, 30]])
def test_mean_value(values):
    want = IMAGE.astype(np.float32) - np.array(values, np.float32)
    assert np.array_equal(transform(mean_value=values)(IMAGE, rng()), want.transpose(2, 0, 1))


def test_contradictions_come_together():
    with pytest.raises(LayerError) as error:
        transform(mean_file="x", mean_value=[1], force_color=True, force_gray=True)
    assert len(error.value.problems) == 2


@pytest.mark.parametrize(
    ("fields", "mean", "told"),
    [
        ({"crop_size": 10}, None, "crop_size 10 is larger than an image of 9×12"),
        ({"mean_value": [1, 2]}, None, "2 mean values for an image with 3"),
        ({}, MEAN[:, :5], r"\(3, 5, 9\)"),
    ],
)
def test_what_does_not_fit_the_image(fields, mean, told):
    with pytest.raises(LayerError, match=told):
        transform(TEST, mean, **fields)(IMAGE, rng())


def test_mean_file_of_either_layout(tmp_path):
    legacy = BlobProto(num=1, channels=1, height=1, width=2, data=[1, 2])
    current = BlobProto(data=[1, 2])
    current.shape.dim.extend([1, 1, 1, 2])
    for blob in (legacy, current):
        (tmp_path / "mean").write_bytes(blob.SerializeToString())
        assert load_mean(tmp_path / "mean").tolist() == [[[1, 2]]]


def test_mean_file_that_is_none(tmp_path):
    with pytest.raises(MissingFileError):
        load_mean(tmp_path / "no")
    (tmp_path / "mean").write_bytes(b"<html>")
    with pytest.raises(FormatError):
        load_mean(tmp_path / "mean")
    (tmp_path / "mean").write_bytes(BlobProto(num=2, channels=1, height=1, width=1, data=[1, 2]).SerializeToString())
    with pytest.raises(LayerError, match="expected one image"):
        load_mean(tmp_path / "mean")
