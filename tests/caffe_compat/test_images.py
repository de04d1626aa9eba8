import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from caffe_compat.data.images import decode_image, read_image, read_label
from prototxt.errors import FormatError, MissingFileError
from tests.caffe_compat.golden_data import GOLDEN

COLORS = np.random.default_rng(0).integers(0, 256, (12, 7, 3), dtype=np.uint8)


def save(path, array, mode=None, **options):
    Image.fromarray(array, mode).save(path, **options) if mode else Image.fromarray(array).save(path, **options)
    return path


def png_grey(rgb):
    red, green, blue = np.moveaxis(rgb.astype(int), -1, 0)
    return (9797 * red + 19234 * green + 3737 * blue) >> 15


def test_color_png(tmp_path):
    path = save(tmp_path / "x.png", COLORS)
    assert np.array_equal(read_image(path), COLORS[:, :, ::-1])
    assert np.array_equal(read_image(path, color=False), png_grey(COLORS))


def test_grey_png(tmp_path):
    grey = COLORS[:, :, 0]
    path = save(tmp_path / "x.png", grey)
    assert np.array_equal(read_image(path, color=False), grey)
    assert np.array_equal(read_image(path), np.stack([grey] * 3, 2))


def test_alpha_is_dropped():
    rgba = np.asarray(Image.open(GOLDEN / "images/rgba.png"))
    assert rgba[:, :, 3].min() < 255
    assert np.array_equal(read_image(GOLDEN / "images/rgba.png"), rgba[:, :, 2::-1])
    assert np.array_equal(read_image(GOLDEN / "images/rgba.png", False), png_grey(rgba[:, :, :3]))


def test_grey_with_alpha(tmp_path):
    path = tmp_path / "x.png"
    Image.fromarray(COLORS[:, :, 0]).convert("LA").save(path)
    assert np.array_equal(read_image(path, False), COLORS[:, :, 0])


def test_jpeg_grey_is_the_stored_luminance():
    path = GOLDEN / "images/photo.jpg"
    image = Image.open(path)
    image.draft("YCbCr", None)
    assert np.array_equal(read_image(path, False), np.asarray(image)[:, :, 0])
    assert np.array_equal(read_image(path), np.asarray(Image.open(path))[:, :, ::-1])


def test_other_formats_round(tmp_path):
    red, green, blue = np.moveaxis(COLORS.astype(int), -1, 0)
    path = save(tmp_path / "x.bmp", COLORS)
    assert np.array_equal(read_image(path, False), (4899 * red + 9617 * green + 1868 * blue + 8192) >> 14)


def test_16_bits_lose_the_lower_eight(tmp_path):
    deep = COLORS[:, :, 0].astype(np.uint16) * 256 + COLORS[:, :, 1]
    path = tmp_path / "x.png"
    Image.fromarray(deep).save(path)
    assert np.array_equal(read_image(path, False), COLORS[:, :, 0])


def test_1_bit(tmp_path):
    path = save(tmp_path / "x.png", COLORS[:, :, 0] > 99)
    assert np.array_equal(read_image(path, False), (COLORS[:, :, 0] > 99) * 255)


def test_cmyk_jpeg(tmp_path):
    path = tmp_path / "x.jpg"
    Image.new("CMYK", (8, 8), (255, 0, 0, 0)).save(path, quality=100)
    assert np.abs(read_image(path)[0, 0].astype(int) - [255, 255, 0]).max() < 6
    assert abs(int(read_image(path, False)[0, 0]) - 179) < 6


def test_exif_orientation_is_ignored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "x.png", COLORS, exif=exif)
    assert read_image(path).shape == (12, 7, 3)


def test_encoded_as_stored():
    for name, shape in {"gray.png": (20, 28), "rgba.png": (20, 28, 4), "im0.png": (24, 32, 3)}.items():
        data = (GOLDEN / "images" / name).read_bytes()
        assert decode_image(data, None).shape == shape
        assert np.array_equal(decode_image(data, True), read_image(GOLDEN / "images" / name))


@pytest.mark.parametrize("dtype", [np.uint8, np.float64, np.int32])
def test_array_is_taken_as_it_is(tmp_path, dtype):
    array = np.arange(4 * 5 * 6).reshape(4, 5, 6).astype(dtype)
    np.save(tmp_path / "x.npy", array)
    read = read_image(tmp_path / "x.npy")
    assert read.dtype == (np.uint8 if dtype == np.uint8 else np.float32)
    assert np.array_equal(read, array)
    np.save(tmp_path / "label.npy", array[:, :, 0])
    assert np.array_equal(read_label(tmp_path / "label.npy")[0], array[:, :, 0])
    with pytest.raises(FormatError, match=r"expected labels of shape"):
        read_label(tmp_path / "x.npy")


def test_missing(tmp_path):
    with pytest.raises(MissingFileError, match=r"no\.png"):
        read_image(tmp_path / "no.png")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"<!DOCTYPE html>", "<!DOCTYPE html>"),
    ],
)
@pytest.mark.parametrize("name", ["x.png", "x.npy"])
def test_not_an_image(tmp_path, content, told, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FormatError, match=told) as error:
        read_image(tmp_path / name)
    assert name in str(error.value)


def test_truncated(tmp_path):
    whole = (GOLDEN / "images/im0.png").read_bytes()
    (tmp_path / "x.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FormatError, match=r"x\.png: a damaged PNG"):
        read_image(tmp_path / "x.png")


def test_32_bits_are_refused(tmp_path):
    Image.fromarray(COLORS[:, :, 0].astype(np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(FormatError, match=r"\.npy"):
        read_image(tmp_path / "x.tif")


@pytest.mark.parametrize(
    ("mode", "options", "told"),
    [
        ("L", {}, ""),
        ("P", {}, "palette"),
        ("RGB", {}, "colour"),
        ("1", {}, "1-bit"),
        ("I;16", {}, "16-bit"),
    ],
)
def test_doubtful_labels(tmp_path, mode, options, told):
    Image.new(mode, (4, 3)).save(tmp_path / "x.png", **options)
    doubt = read_label(tmp_path / "x.png")[1]
    assert told in doubt
    assert bool(told) == bool(doubt)


def test_label_as_jpeg(tmp_path):
    assert "compression" in read_label(GOLDEN / "images/photo.jpg")[1]


def test_4_bit_label_is_spread(tmp_path):
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 2, 1, 4, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0\x2b")),
        (b"IEND", b""),
    ]
    body = b"".join(struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks)
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    label, doubt = read_label(tmp_path / "x.png")
    assert label.tolist() == [[2 * 17, 11 * 17]]
    assert "4-bit" in doubt
