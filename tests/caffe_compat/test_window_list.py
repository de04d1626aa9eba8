"""WindowData: windows of images as R-CNN was trained with."""

import numpy as np
import pytest
from PIL import Image

import caffe_compat as caffe
from caffe_compat.data.resize import bilinear
from caffe_compat.data.window_file import read_windows
from caffe_compat.data.window_list import WindowSource
from caffe_compat.errors import LayerError
from caffe_compat.paths import Paths
from prototxt.caffe_pb2 import TRAIN, BlobProto, TransformationParameter, WindowDataParameter
from prototxt.errors import FormatError, MissingFileError
from tests.caffe_compat.nets import net

IMAGES = [np.random.default_rng(i).integers(1, 256, (10, 12, 3), dtype=np.uint8) for i in range(2)]  # BGR
FILE = """# 0
im0.png
3
10
12
3
1 0.7 2 1 5 8
2 0.1 0 0 3 3
3 0.4 1 1 2 2
# 1
im1.png 3 10 12 2
4 0.5 4 2 11 9  0 0.2 6 6 8 8
"""


@pytest.fixture
def source(tmp_path):
    """Makes sources over one window file."""
    for number, image in enumerate(IMAGES):
        Image.fromarray(image[:, :, ::-1]).save(tmp_path / f"im{number}.png")

    def source(text=FILE, transform=None, **fields):
        (tmp_path / "windows.txt").write_text(text)
        defaults = {"source": "windows.txt", "batch_size": 4, "bg_threshold": 0.3}
        transform = TransformationParameter(**{"crop_size": 8} | (transform or {}))
        param = WindowDataParameter(**defaults | fields)
        return WindowSource(param, transform, TRAIN, paths=Paths(tmp_path / "net.prototxt"), seed=1)

    return source


def one(x1, y1, x2, y2, label=1):
    """A file with this window of the first image alone."""
    return f"# 0 im0.png 3 10 12 1 {label} 1 {x1} {y1} {x2} {y2}"


def planes(image):
    return image.transpose(2, 0, 1).astype(np.float32)


def test_file(tmp_path):
    (tmp_path / "w").write_text(FILE)
    windows = read_windows(tmp_path / "w")
    assert windows.images == ["im0.png", "im1.png"]
    assert windows.image.tolist() == [0, 0, 0, 1, 1]
    assert windows.label.tolist() == [1, 2, 3, 4, 0]
    assert windows.overlap.tolist() == np.float32([0.7, 0.1, 0.4, 0.5, 0.2]).tolist()
    assert windows.box[3].tolist() == [4, 2, 11, 9]


def test_a_batch_is_background_then_objects(source):
    batches = source(fg_fraction=0.49)  # 1.96 of 4 are truncated
    assert len(batches) == 4
    assert batches.top_shapes() == [(4, 3, 8, 8), (4,)]
    kinds = np.array([batches.next_batch()[1] for _ in range(60)])
    assert not kinds[:, :3].any()
    assert set(kinds[:, 3]) == {1, 4}
    assert {files[0].name for files in batches.last_files} <= {"im0.png", "im1.png"}


def test_as_a_torch_dataset(source):
    labels = [int(label) for _, label in source()]
    assert labels == [1, 4, 0, 0]  # between the thresholds is neither
    assert np.array_equal(source()[0][0], planes(bilinear(IMAGES[0][1:9, 2:6], 8, 8)))


def test_mirror_mean_and_scale(source, tmp_path):
    image = np.random.default_rng(5).random((3, 11, 11), dtype=np.float32)
    blob = BlobProto(num=1, channels=3, height=11, width=11, data=image.ravel())
    (tmp_path / "mean.binaryproto").write_bytes(blob.SerializeToString())
    np.save(tmp_path / "mean.npy", np.array([1.0, 2, 3]))
    warped = planes(bilinear(IMAGES[0][1:9, 2:6], 8, 8))
    values = np.array([1, 2, 3], np.float32).reshape(3, 1, 1)
    means = [({"mean_value": [1, 2, 3]}, values), ({"mean_value": [1]}, 1), ({"mean_file": "mean.npy"}, values)]
    means.append(({"mean_file": "mean.binaryproto"}, image[:, 1:9, 1:9]))
    for transform, mean in means:
        batches = source(
            one(2, 1, 5, 8), {"mirror": True, "scale": 0.5} | transform, batch_size=20, fg_fraction=1, scale=4
        )
        data = batches.next_batch()[0]
        # the mean is not mirrored with the window
        expected = [((turned - mean) * 2).tobytes() for turned in (warped, warped[:, :, ::-1])]
        assert {item.tobytes() for item in data} == set(expected)


def test_context_is_as_wide_as_asked_for_in_the_crop(source):
    # 4×4 pixels become 4×4 of the 8×8: the window grows by 2 on each side, and by one pixel for the inclusive end
    data = source(one(4, 3, 7, 6), context_pad=2, fg_fraction=1).next_batch()[0][0]
    assert np.array_equal(data, planes(bilinear(IMAGES[0][1:10, 2:11], 8, 8)))


def test_square(source):
    # 2 wide and 6 high: its middle is at 5, 4, and it reaches 3 to both sides
    data = source(one(4, 1, 5, 6), crop_mode="square", fg_fraction=1).next_batch()[0][0]
    assert np.array_equal(data, planes(bilinear(IMAGES[0][1:8, 2:9], 8, 8)))


@pytest.mark.parametrize("mirror", [False, True])
def test_what_lies_outside_the_image_is_zero(source, mirror):
    # grows to -2…6 and -4…4 of columns and rows: 2 of 9 columns and 4 of 9 rows are missing
    batches = source(
        one(0, -2, 3, 1), {"mirror": mirror, "mean_value": [1]}, context_pad=2, fg_fraction=1, batch_size=20
    )
    part = planes(bilinear(IMAGES[0][:5, :7], 4, 6)) - 1
    plain, turned = np.zeros((3, 8, 8), np.float32), np.zeros((3, 8, 8), np.float32)
    plain[:, 4:, 2:] = part
    turned[:, 4:, :6] = part[:, :, ::-1]
    expected = {plain.tobytes(), turned.tobytes()} if mirror else {plain.tobytes()}
    assert {item.tobytes() for item in batches.next_batch()[0]} == expected


def test_halves_are_rounded_away_from_zero(source):
    # columns 0…2 grow to -1.5…4.5, that is -2…5; rows 4…6 to 2.5…8.5, that is 3…9
    data = source(one(0, 4, 2, 6), context_pad=2, fg_fraction=1).next_batch()[0][0]
    part = planes(bilinear(IMAGES[0][3:10, :6], 8, 6))
    assert np.array_equal(data[:, :, 2:], part)
    assert not data[:, :, :2].any()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", r"windows\.txt: the window file is empty"),
        ("im0.png 3", r"windows\.txt:1: found 'im0\.png'; expected '# 0'"),
        ("# 1\nim0.png 3 10 12 0", r"windows\.txt:1: found '1'; expected 0, as images are numbered"),
        ("# 0\nim0.png\n3 10 12 x", r"windows\.txt:3: found 'x'; expected a number"),
        (f"{FILE}\n1", r"windows\.txt:14: found '1'; expected '# 2'"),
        (FILE.replace("3 0.4", "3 y"), r"windows\.txt:9: found 'y'; expected a number of 'class overlap"),
        (FILE.replace("3 0.4", "nan 0.4"), r"windows\.txt:9: found 'nan'; expected a number of 'class overlap"),
        (FILE.replace("3 0.4", "3 1e99"), r"windows\.txt:9: found '1e99'; expected a number of 'class overlap"),
        ("# 0 im0.png 3 10 12 2 1 1 0 0 3", r"windows\.txt: ends within an image; expected 7 words more"),
    ],
)
def test_files_that_are_refused(source, text, told):
    with pytest.raises(FormatError, match=told):
        source(text).next_batch()


@pytest.mark.parametrize(
    ("transform", "fields", "told"),
    [
        ({"crop_size": 0}, {}, "no crop_size"),
        ({}, {"context_pad": 4}, "context_pad 4 on both sides leaves nothing of crop_size 8"),
        ({}, {"crop_mode": "wrap"}, "crop_mode is 'wrap'; expected 'warp' or 'square'"),
        ({}, {"batch_size": 0}, "window_data_param has no batch_size"),
    ],
)
def test_settings_that_are_refused(source, transform, fields, told):
    with pytest.raises(LayerError, match=told):
        source(transform=transform, **fields)


@pytest.mark.parametrize(
    ("text", "transform", "fields", "told"),
    [
        (one(0, 0, 3, 3), {}, {}, "none of 1 windows counts as background, of which 3 are wanted"),
        (FILE, {}, {"fg_threshold": 0.9}, "none of 5 windows counts as objects, of which 1 are wanted"),
        (one(0, 0, 3, 3, 0), {}, {"fg_fraction": 1}, r"im0\.png overlaps an object by 1 and has the class 0"),
        (
            one(12, 0, 14, 3),
            {},
            {"fg_fraction": 1},
            r"im0\.png: nothing of the image lies in the window \[12, 0, 14, 3\]",
        ),
        (one(3, 0, 2, 3), {}, {"fg_fraction": 1, "context_pad": 1}, r"lies in the window \[3, 0, 2, 3\]"),
        (FILE, {"mean_value": [1, 2]}, {}, "2 mean values; expected 1 for all channels or 3"),
        (FILE, {"mean_file": "small.npy"}, {}, r"mean_file has the shape \(3, 7, 7\).*as large as crop_size 8"),
        (FILE, {"mean_file": "wide.npy"}, {}, r"mean_file has the shape \(3, 8, 20\)"),
    ],
)
def test_what_does_not_fit(source, tmp_path, text, transform, fields, told):
    np.save(tmp_path / "small.npy", np.zeros((3, 7, 7)))
    np.save(tmp_path / "wide.npy", np.zeros((3, 8, 20)))
    batches = source(text, transform, **fields)
    for call in (batches.top_shapes, batches.next_batch):
        with pytest.raises(LayerError, match=told):
            call()


def test_missing_image(source):
    with pytest.raises(MissingFileError, match=r"1 of the 1 files it names are missing: no\.png"):
        source(one(0, 0, 3, 3).replace("im0", "no"), fg_fraction=1).next_batch()


LAYER = """layer { name: "d" type: "WindowData" top: "data" top: "label"
  window_data_param { source: "/nowhere/windows.txt" batch_size: 4 bg_threshold: 0.3 }
  transform_param { crop_size: 8 } }"""


def test_layer(source, tmp_path):
    made = net(LAYER, caffe.TRAIN)
    assert [blob.shape for blob in made.blobs.values()] == [(4, 3, 8, 8), (4,)]
    with pytest.raises(MissingFileError, match="layer 'd'"):
        made.forward()
    source()
    made = net(LAYER, caffe.TRAIN, roots=[("/nowhere", str(tmp_path))])
    made.forward()
    assert made.blobs["label"].data[:3].tolist() == [0, 0, 0]
    assert made.blobs["label"].data[3] in (1, 4)
