"""ImageData: images with a class each, as a source and as a layer."""

import numpy as np
import pytest
import torch
from PIL import Image

import caffe_compat as caffe
from caffe_compat.data.image_list import ImageSource
from caffe_compat.errors import LayerError, NetError
from caffe_compat.paths import Paths
from prototxt.caffe_pb2 import TEST, TRAIN, ImageDataParameter, TransformationParameter
from prototxt.errors import FormatError, MissingFileError
from tests.caffe_compat.golden_data import GOLDEN
from tests.caffe_compat.nets import net

CASES = sorted(path.stem for path in GOLDEN.glob("image_*.npz"))


def source(transform=None, phase=TEST, dialect="bvlc", paths=None, seed=1, **fields):
    param = ImageDataParameter(**{"source": "class.txt", "batch_size": 2} | fields)
    paths = paths or Paths(GOLDEN / "x")
    return ImageSource(param, TransformationParameter(**transform or {}), phase, dialect, paths, seed)


@pytest.fixture
def write(tmp_path):
    """Writes grey images of these sizes (width, height), whose pixels count up, and a list with the classes 5, 6, …"""

    def write(*sizes, name="im"):
        lines = []
        for number, (width, height) in enumerate(sizes):
            pixels = np.arange(width * height, dtype=np.uint8).reshape(height, width)
            Image.fromarray(pixels).save(tmp_path / f"{name}{number}.png")
            lines.append(f"{name}{number}.png {5 + number}\n")
        (tmp_path / "class.txt").write_text("".join(lines))
        return Paths(tmp_path / "net.prototxt")

    return write


@pytest.mark.parametrize("dialect", ["segnet", "bvlc"])
@pytest.mark.parametrize("case", CASES)
def test_recorded(case, dialect):
    made = caffe.Net(GOLDEN / f"{case}.prototxt", caffe.TEST, dialect=dialect)
    with np.load(GOLDEN / f"{case}.npz") as want:
        for number in range(4):
            made.forward()
            for name in ("data", "label"):
                recorded = want[f"batch{number}:{name}"]
                np.testing.assert_allclose(made.blobs[name].data, recorded, rtol=0, atol=1e-4, strict=True)


def test_recorded_cases_are_all_here():
    assert len(CASES) == 7


def test_batches_and_files():
    batches = source(batch_size=3)
    assert batches.top_shapes() == [(3, 3, 24, 32), (3,)]
    labels, names = [], []
    for _ in range(2):
        labels += batches.next_batch()[1].tolist()
        names += [files[-1].name for files in batches.last_files]
    assert labels == [0, 2, 4, 1, 3, 0]
    assert names == [f"im{i % 5}.png" for i in range(6)]


def test_as_a_torch_dataset():
    image, label = source()[1]
    assert image.shape == (3, 24, 32)
    assert (label.dtype, label.shape, int(label)) == (torch.int64, (), 2)


def test_the_first_image_of_each_batch_gives_the_shape(write):
    batches = source(paths=write((8, 6), (5, 4)), batch_size=1, is_color=False)
    assert [batches.next_batch()[0].shape for _ in range(3)] == [(1, 1, 6, 8), (1, 1, 4, 5), (1, 1, 6, 8)]
    with pytest.raises(LayerError, match=r"im0\.png and .*im1\.png .*new_height and new_width, or crop_size"):
        source(paths=write((8, 6), (5, 4))).next_batch()


@pytest.mark.parametrize("phase", [TRAIN, TEST])
def test_crop_is_random_in_train_alone_and_the_mirror_in_both(write, phase):
    transform = {"crop_size": 4, "mirror": True, "mean_value": [1], "scale": 2}
    batches = source(transform, phase, paths=write((6, 8)), batch_size=1, is_color=False)
    seen = set()
    for _ in range(200):
        rows = batches.next_batch()[0][0, 0] / 2 + 1
        mirrored = rows[0, 0] > rows[0, 1]
        top, left = divmod(int(rows.min()), 6)
        expected = np.arange(48).reshape(8, 6)[top : top + 4, left : left + 4]
        assert np.array_equal(rows[:, ::-1] if mirrored else rows, expected)
        seen.add((top, left, bool(mirrored)))
    places = [(y, x) for y in range(5) for x in range(3)] if phase == TRAIN else [(2, 1)]
    assert seen == {(*place, mirrored) for place in places for mirrored in (False, True)}


def test_mean_from_a_npy_file(tmp_path, write):
    paths = write((6, 8))
    plain = source(paths=paths, batch_size=1).next_batch()[0]
    image = np.random.default_rng(0).random((3, 8, 6))
    for name, mean, expected in [
        ("values", np.array([1.0, 2, 3]), plain - np.array([1, 2, 3], np.float32).reshape(3, 1, 1)),
        ("image", image, plain - image.astype(np.float32)),
        ("blob", image[None], plain - image.astype(np.float32)),
    ]:
        np.save(tmp_path / f"{name}.npy", mean)
        got = source({"mean_file": f"{name}.npy"}, paths=paths, batch_size=1).next_batch()[0]
        assert np.array_equal(got, expected)


def test_names_with_spaces(write):
    paths = write((4, 4), name="my im")
    assert source(paths=paths, batch_size=1).next_batch()[1].tolist() == [5]
    with pytest.raises(FormatError, match=r"class\.txt:1: found 'my im0\.png'; expected an image's name"):
        source(paths=paths, dialect="segnet").next_batch()


def test_root_folder_is_put_in_front_as_it_is(tmp_path, write):
    paths = write((4, 4))
    (tmp_path / "class.txt").write_text("m0.png 1")
    batches = source(paths=paths, root_folder=f"{tmp_path}/i", batch_size=1)
    batches.next_batch()
    assert batches.last_files == [(tmp_path / "im0.png",)]


@pytest.mark.parametrize(
    ("transform", "fields", "told"),
    [
        ({}, {"source": ""}, "image_data_param has no source"),
        ({}, {"batch_size": 0}, "no batch_size"),
        ({}, {"new_width": 5}, "new_width without new_height"),
        ({"mean_file": "x", "mean_value": [1]}, {}, "both mean_file and mean_value"),
        ({"crop_height": 5, "crop_width": 6}, {}, "transform_param.crop_height is for ImageSegData"),
        ({"scale_factors": [0.5]}, {}, "transform_param.scale_factors is for ImageSegData"),
    ],
)
def test_settings_that_are_refused(transform, fields, told):
    with pytest.raises(LayerError, match=told):
        source(transform, **fields)


def test_fields_without_effect_are_told(caplog):
    source(mirror=True, scale=1, crop_size=0)
    assert [record.getMessage() for record in caplog.records] == [
        "image_data_param.mirror has no effect, as in Caffe; expected it in transform_param { mirror: ... }"
    ]


@pytest.mark.parametrize(
    ("transform", "fields", "told"),
    [
        ({"crop_size": 25}, {}, r"im0\.png: crop_size 25 is larger than an image of 32×24"),
        ({"mean_file": "mean.binaryproto"}, {"new_height": 5, "new_width": 5}, r"im0\.png: mean_file has the shape"),
        ({"mean_value": [1, 2]}, {}, r"im0\.png: 2 mean values for an image with 3"),
        ({}, {"rand_skip": 6}, "rand_skip 6 can skip more than the 5 entries of .*class.txt"),
    ],
)
def test_what_does_not_fit_the_images(transform, fields, told):
    with pytest.raises(LayerError, match=told):
        source(transform, **fields).next_batch()


def test_missing_files(tmp_path, write):
    with pytest.raises(MissingFileError, match=r"'none\.txt' does not exist"):
        source(source="none.txt").next_batch()
    with pytest.raises(MissingFileError, match=r"'none\.npy' does not exist"):
        source({"mean_file": "none.npy"}).next_batch()
    paths = write((4, 4), (4, 4))
    (tmp_path / "im1.png").unlink()
    with pytest.raises(MissingFileError, match=r"1 of the 2 files it names are missing: im1\.png"):
        source(paths=paths).next_batch()


LAYER = """layer { name: "d" type: "ImageData" top: "data" top: "label"
  image_data_param { source: "SOURCE" OWN } transform_param { TRANSFORM } }"""


def built(source="/nowhere/class.txt", own="batch_size: 2", transform="", **options):
    text = LAYER.replace("SOURCE", str(source)).replace("OWN", own).replace("TRANSFORM", transform)
    return net(text, **options)


@pytest.mark.parametrize(
    ("own", "transform", "options", "shape"),
    [
        ("batch_size: 2 new_height: 30 new_width: 40", "", {}, (2, 3, 30, 40)),
        ("batch_size: 2 new_height: 30 new_width: 40", "crop_size: 20", {}, (2, 3, 20, 20)),
        ("batch_size: 2 is_color: false", "", {}, (2, 1, 360, 480)),
        ("batch_size: 2", "crop_size: 20", {"image_size": (8, 9)}, (2, 3, 8, 9)),
        ("batch_size: 2", "", {"input_shapes": {"data": (4, 3, 6, 8)}}, (4, 3, 6, 8)),
    ],
)
def test_size_without_the_data(own, transform, options, shape):
    made = built(own=own, transform=transform, **options)
    assert made.blobs["data"].shape == shape
    assert made.blobs["label"].shape == shape[:1]


def test_default_batch_size():
    assert built(own="", dialect="bvlc").blobs["data"].shape[0] == 1
    with pytest.raises(NetError, match="`batch_size` is 0 or missing"):
        built(own="", dialect="segnet")


def test_a_phase_of_the_layer_itself_decides():
    assert built().layers[0].open().phase == caffe.TEST
    assert built(transform="} phase: TRAIN include {").layers[0].open().phase == caffe.TRAIN


def test_a_class_out_of_range_names_its_image(tmp_path, write):
    write((4, 4), (4, 4))
    text = LAYER.replace("SOURCE", "/nowhere/class.txt").replace("OWN", "batch_size: 2").replace("TRANSFORM", "")
    made = net(
        text
        + """layer { name: "score" type: "InnerProduct" bottom: "data" top: "score"
          inner_product_param { num_output: 6 } }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }""",
        caffe.TRAIN,
        roots=[("/nowhere", str(tmp_path))],
    )
    with pytest.raises(NetError, match=r"6 \(1 times\); expected 0 to 5.*im1\.png: \{6: 1\}"):
        made.forward()
