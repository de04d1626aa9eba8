"""ImageSegData and DeconvNet's window layers: values by hand."""

import numpy as np
import pytest
import torch
from PIL import Image

import caffe_compat as caffe
from caffe_compat.data.resize import bilinear, nearest
from caffe_compat.data.seg_image import (
    ImageSegSource,
    WindowClsSource,
    WindowInstSegSource,
    WindowSegBinarySource,
    WindowSegSource,
)
from caffe_compat.errors import LayerError, NetError
from caffe_compat.paths import Paths
from prototxt.caffe_pb2 import TEST, TRAIN, ImageDataParameter, TransformationParameter
from prototxt.errors import FormatError, MissingFileError
from tests.caffe_compat.nets import net

IMAGE = np.random.default_rng(0).integers(1, 256, (6, 8, 3), dtype=np.uint8)  # (H, W, C) in BGR
LABEL = np.arange(48, dtype=np.uint8).reshape(6, 8)
OBJECTS = np.array([[0, 1, 2, 255, 1, 2, 0, 0]] * 6, np.uint8)


@pytest.fixture
def source(tmp_path):
    """Makes sources over one list."""
    Image.fromarray(IMAGE[:, :, ::-1]).save(tmp_path / "im.png")
    Image.fromarray(LABEL).save(tmp_path / "lab.png")
    Image.fromarray(OBJECTS).save(tmp_path / "obj.png")

    def source(lines="im.png lab.png\n", transform=None, phase=TEST, cls=ImageSegSource, dialect="deconvnet", **fields):
        (tmp_path / "list.txt").write_text(lines)
        options = {"label_dim": fields.pop("label_dim")} if "label_dim" in fields else {}
        defaults = {"source": "list.txt", "batch_size": 1, "label_type": ImageDataParameter.PIXEL}
        transform = TransformationParameter(**transform or {})
        paths = Paths(tmp_path / "net.prototxt")
        return cls(ImageDataParameter(**defaults | fields), transform, phase, dialect, paths, 1, **options)

    return source


def data(image):
    """An image (H, W, C) as a batch."""
    return image.transpose(2, 0, 1)[None].astype(np.float32)


def test_as_it_is(source):
    batches = source()
    assert batches.top_shapes() == [(1, 3, 6, 8), (1, 1, 6, 8), (1, 1, 1, 2)]
    image, label, size = batches.next_batch()
    assert np.array_equal(image, data(IMAGE))
    assert np.array_equal(label[0, 0], LABEL)
    assert size.tolist() == [[[[6, 8]]]]
    assert [file.name for file in batches.last_files[0]] == ["im.png", "lab.png"]
    assert all(blob.dtype == np.float32 for blob in (image, label, size))


def test_as_a_torch_dataset(source):
    image, label = source()[0]
    assert image.shape == (3, 6, 8)
    assert label.dtype == torch.int64
    assert np.array_equal(label, LABEL)


@pytest.mark.parametrize(
    ("kind", "line", "ignore", "value"),
    [
        (ImageDataParameter.IMAGE, "im.png 7 more words", 255, 7),
        (ImageDataParameter.IMAGE, "im.png 300", 255, 255),
        (ImageDataParameter.IMAGE, "im.png -2", 255, 0),
        (ImageDataParameter.NONE, "im.png", 255, 255),
        (ImageDataParameter.NONE, "im.png lab.png", 9, 9),
        (ImageDataParameter.NONE, "im.png", -1, 0),
    ],
)
def test_labels_without_an_image(source, kind, line, ignore, value):
    label = source(f"\n{line}\n", label_type=kind, ignore_label=ignore).next_batch()[1]
    assert np.array_equal(label, np.full((1, 1, 6, 8), value))


def test_a_label_is_resized_by_nearest_but_blended_in_deeplab(source):
    image, label, size = source(new_height=9, new_width=5).next_batch()
    assert np.array_equal(image, data(bilinear(IMAGE, 9, 5)))
    assert np.array_equal(label[0, 0], nearest(LABEL, 9, 5))
    assert size.ravel().tolist() == [9, 5]
    blended = source(new_height=9, new_width=5, dialect="deeplab").next_batch()[1]
    assert np.array_equal(blended[0, 0], bilinear(LABEL, 9, 5))


def test_padding_is_below_and_right_and_comes_out_as_zero_and_ignored(source):
    transform = {"crop_size": 10, "mean_value": [1, 2, 3], "scale": 2}
    image, label, size = source(transform=transform, ignore_label=99).next_batch()
    assert np.array_equal(image[:, :, :6, :8], (data(IMAGE) - np.array([1, 2, 3]).reshape(3, 1, 1)) * 2)
    assert not image[:, :, 6:].any() and not image[:, :, :, 8:].any()
    assert np.array_equal(label[0, 0, :6, :8], LABEL)
    assert (label[:, :, 6:] == 99).all() and (label[:, :, :, 8:] == 99).all()
    assert size.ravel().tolist() == [6, 8]


def test_crop_in_the_middle_after_padding(source):
    label, size = source(transform={"crop_height": 7, "crop_width": 4}).next_batch()[1:]
    assert np.array_equal(label[0, 0, :6], LABEL[:, 2:6])
    assert (label[0, 0, 6] == 255).all()
    assert size.ravel().tolist() == [6, 4]


@pytest.mark.parametrize("phase", [TRAIN, TEST])
def test_mirror_and_crop_of_both_alike(source, phase):
    batches = source(transform={"crop_size": 4, "mirror": True, "mean_value": [5]}, phase=phase)
    seen = set()
    for _ in range(300):
        image, label, _ = batches.next_batch()
        mirrored = bool(label[0, 0, 0, 0] > label[0, 0, 0, 1])
        if mirrored:
            image, label = image[..., ::-1], label[..., ::-1]
        top, left = divmod(int(label[0, 0, 0, 0]), 8)
        assert np.array_equal(label[0, 0], LABEL[top : top + 4, left : left + 4])
        assert np.array_equal(image, data(IMAGE[top : top + 4, left : left + 4]) - 5)
        seen.add((top, left, mirrored))
    places = [(y, x) for y in range(3) for x in range(5)] if phase == TRAIN else [(1, 2)]
    assert seen == {(*place, mirrored) for place in places for mirrored in (False, True)}


def test_scale_factors_are_drawn_in_test_too(source):
    batches = source(transform={"scale_factors": [0.5, 1, 1.3]}, dialect="deeplab")
    seen = set()
    for _ in range(40):
        image, label, size = batches.next_batch()
        height, width = label.shape[2:]
        assert np.array_equal(image, data(bilinear(IMAGE, height, width)))
        assert np.array_equal(label[0, 0], nearest(LABEL, height, width))
        assert size.ravel().tolist() == [min(6, height), min(8, width)]
        seen.add((height, width))
    assert seen == {(3, 4), (6, 8), (7, 10)}  # truncated


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ((2, 1, 5, 3), slice(1, 4), slice(2, 6)),
        ((-2, -1, 9, 7), slice(-1, 8), slice(-2, 10)),
        ((9, 7, 10, 8), slice(7, 9), slice(9, 11)),
    ],
)
def test_window(source, box, rows, columns):
    line = f"im.png lab.png {' '.join(map(str, box))} more\n"
    image, label, size = source(line, cls=WindowSegSource, ignore_label=77).next_batch()
    padded = np.pad(IMAGE, ((5, 5), (5, 5), (0, 0)))
    labels = np.pad(LABEL, 5, constant_values=77)
    rows, columns = (slice(side.start + 5, side.stop + 5) for side in (rows, columns))
    assert np.array_equal(image, data(padded[rows, columns]))
    assert np.array_equal(label[0, 0], labels[rows, columns])
    assert size.ravel().tolist() == [min(6, label.shape[2]), min(8, label.shape[3])]  # of the whole image


def test_window_is_resized(source):
    options = {"cls": WindowSegSource, "new_height": 7, "new_width": 9}
    image, label, size = source("im.png lab.png 2 1 5 3", **options).next_batch()
    assert np.array_equal(image, data(bilinear(IMAGE[1:4, 2:6], 7, 9)))
    assert np.array_equal(label[0, 0], nearest(LABEL[1:4, 2:6], 7, 9))
    assert size.ravel().tolist() == [6, 8]
    one = source("im.png 3 2 1 5 3", label_type=ImageDataParameter.IMAGE, **options).next_batch()[1]
    assert (one == 3).all()
    none = source("im.png 2 1 5 3", label_type=ImageDataParameter.NONE, **options).next_batch()[1]
    assert (none == 255).all()


def test_other_objects_get_their_own_label(source):
    batches = source("im.png lab.png obj.png 1 0 8 0 2", cls=WindowInstSegSource, other_object_label=50)
    label = batches.next_batch()[1]
    # object 1 is another one; 0 and 255 are none, and neither is what lies outside the image
    assert label.ravel().tolist() == [50, 2, 3, 50, 5, 6, 7, 255]
    assert [file.name for file in batches.last_files[0]] == ["im.png", "lab.png"]
    kind = ImageDataParameter.IMAGE
    assert (
        source("im.png 3 none.png 1 0 8 0 2", cls=WindowInstSegSource, label_type=kind).next_batch()[1][..., :7] == 3
    ).all()
    kind = ImageDataParameter.NONE
    assert (source("im.png 1 0 7 0 2", cls=WindowInstSegSource, label_type=kind).next_batch()[1] == 255).all()


def test_binary_labels(source):
    label = source("im.png lab.png 0 0 8 0", cls=WindowSegBinarySource).next_batch()[1]
    assert label.ravel().tolist() == [0, 1, 1, 1, 1, 1, 1, 1, 255]


def test_classes_of_a_window(source):
    batches = source("im.png lab.png -1 0 3 0", cls=WindowClsSource, label_dim=4)
    assert batches.top_shapes() == [(1, 3, 1, 5), (1, 4, 1, 1), (1, 1, 1, 2)]
    assert batches.next_batch()[1].ravel().tolist() == [1, 1, 1, 0]
    assert batches[0][1].tolist() == [1, 1, 1, 0]
    with pytest.raises(LayerError, match=r"lab\.png: holds the classes 4, 5; expected 1 to 4.*label_dim: 5"):
        source("im.png lab.png 4 0 5 0", cls=WindowClsSource, label_dim=4).next_batch()


@pytest.mark.parametrize(
    ("transform", "fields", "told"),
    [
        ({"mean_file": "x"}, {}, "has a mean_file, which ImageSegData does not read"),
        ({"mean_file": "x"}, {"cls": WindowSegSource}, "has a mean_file, which WindowSegData does not read"),
        ({"crop_size": 3, "crop_width": 3}, {}, "crop_size and crop_height or crop_width"),
        ({"crop_width": 3}, {}, "crop_width without crop_height"),
        ({"scale_factors": [1, 0]}, {}, "scale_factors: 0; expected numbers above 0"),
        ({}, {"new_height": 5}, "new_height without new_width"),
        ({}, {"source": ""}, "image_data_param has no source"),
    ],
)
def test_settings_that_are_refused(source, transform, fields, told):
    with pytest.raises(LayerError, match=told):
        source(transform=transform, **fields)


@pytest.mark.parametrize(
    ("lines", "fields", "told"),
    [
        ("im.png lab.png\n\nim.png", {}, r"list\.txt:3: found 'im\.png'; expected image, label$"),
        ("im.png lab.png", {"label_type": ImageDataParameter.IMAGE}, r"list\.txt:1: (?s:.*)`label_type: PIXEL`"),
        ("im.png lab.png 1 2 3", {"cls": WindowSegSource}, r"list\.txt:1: .*expected image, label, x1 \(a number\)"),
        ("im.png lab.png 5 2 4 3", {"cls": WindowSegSource}, r"list\.txt:1: .*5 2 4 3"),
        (
            "im.png lab.png 1 2 3 4 5",
            {"cls": WindowInstSegSource},
            r"list\.txt:1: .*expected image, label, objects, x1",
        ),
        ("", {}, r"list\.txt: the list is empty"),
    ],
)
def test_lines_that_are_refused(source, lines, fields, told):
    with pytest.raises(FormatError, match=told):
        source(lines, **fields).next_batch()


def test_what_does_not_fit(source, tmp_path):
    Image.fromarray(LABEL[:5]).save(tmp_path / "less.png")
    with pytest.raises(LayerError, match=r"im\.png is 8×6, .*less\.png is 8×5 .*or give new_height"):
        source("im.png less.png").next_batch()
    assert source("im.png less.png", new_height=4, new_width=4).next_batch()[1].shape == (1, 1, 4, 4)
    with pytest.raises(LayerError, match=r"im\.png is 8×6, .*less\.png is 8×5"):
        source("im.png less.png 0 0 1 1", cls=WindowSegSource, new_height=4, new_width=4).next_batch()
    with pytest.raises(LayerError, match=r"lab\.png is 8×6, .*less\.png is 8×5"):
        source("im.png lab.png less.png 0 0 1 1 1", cls=WindowInstSegSource).next_batch()
    with pytest.raises(LayerError, match=r"im\.png: 2 mean values for an image with 3"):
        source(transform={"mean_value": [1, 2]}).next_batch()
    with pytest.raises(LayerError, match=r"im\.png and .*im\.png are in one batch"):
        source("im.png lab.png 0 0 1 1\nim.png lab.png 0 0 2 2", cls=WindowSegSource, batch_size=2).next_batch()
    with pytest.raises(MissingFileError, match=r"1 of the 2 files it names are missing: none\.png"):
        source("im.png none.png").next_batch()


def test_doubtful_labels_are_told(source, tmp_path, caplog):
    Image.fromarray(LABEL).convert("P").save(tmp_path / "palette.png")
    source("im.png palette.png").next_batch()
    assert "palette.png is a palette image" in caplog.text


LAYER = """layers { name: "d" type: TYPE top: "data" top: "label"
  image_data_param { source: "/nowhere/list.txt" batch_size: 2 label_type: PIXEL OWN }
  transform_param { crop_size: 4 } MORE }"""


@pytest.mark.parametrize(
    ("kind", "more", "label"),
    [
        ("IMAGE_SEG_DATA", "", (2, 1, 4, 4)),
        ("WINDOW_SEG_DATA", "", (2, 1, 4, 4)),
        ("WINDOW_INST_SEG_DATA", "", (2, 1, 4, 4)),
        ("WINDOW_SEG_BINARY", "", (2, 1, 4, 4)),
        ("WINDOW_CLS_DATA", "window_cls_data_param { label_dim: 20 }", (2, 20, 1, 1)),
    ],
)
def test_layers_without_their_data(kind, more, label, caplog):
    made = net(LAYER.replace("TYPE", kind).replace("OWN", "").replace("MORE", more))
    shapes = {name: blob.shape for name, blob in made.blobs.items()}
    assert shapes == {"data": (2, 3, 4, 4), "label": label, "(automatic)": (2, 1, 1, 2)}
    assert made.outputs == ["data", "label"]
    assert "'/nowhere/list.txt' does not exist" in caplog.text
    with pytest.raises(MissingFileError, match=r"layer 'd'"):
        made.forward()


def test_classes_of_a_layer(source, tmp_path):
    source("im.png lab.png 0 0 3 3")
    text = LAYER.replace("TYPE", "WINDOW_CLS_DATA").replace("OWN", "new_height: 4 new_width: 4")
    roots = [("/nowhere", str(tmp_path))]
    made = net(text.replace("MORE", "window_cls_data_param { label_dim: 30 }"), roots=roots)
    made.forward()
    assert np.flatnonzero(made.blobs["label"].data[1]).tolist() == [i - 1 for i in LABEL[:4, :4].ravel() if i]


def test_the_size_is_a_top_like_any_other(source, tmp_path):
    source("im.png lab.png")
    text = """layer { name: "d" type: "ImageSegData" top: "data" top: "label" top: "size"
      image_data_param { source: "/nowhere/list.txt" label_type: PIXEL } transform_param { crop_size: 7 } }
    layer { name: "quiet" type: "Silence" bottom: "label" }"""
    made = net(text, caffe.TEST, roots=[("/nowhere", str(tmp_path))])
    assert made.dialect == "deeplab"
    assert made.forward()["size"].ravel().tolist() == [6, 7]
    assert made.outputs == ["data", "size"]


def test_tops_without_a_name_are_made():
    text = LAYER.replace("TYPE", "IMAGE_SEG_DATA").replace("OWN", "").replace("MORE", "").replace('top: "label"', "")
    made = net(text)
    assert list(made.blobs) == ["data", "(automatic)", "(automatic 2)"]
    assert made.outputs == ["data"]


def test_too_many_tops():
    text = LAYER.replace("TYPE", "IMAGE_SEG_DATA").replace("OWN", "").replace("MORE", 'top: "size" top: "x"')
    with pytest.raises(NetError, match="4 tops; expected 3"):
        net(text)
