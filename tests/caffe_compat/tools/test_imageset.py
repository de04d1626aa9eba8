"""convert_imageset and compute_image_mean: databases and means as Caffe's tools write them."""

import io

import lmdb
import numpy as np
import pytest
from PIL import Image

from caffe_compat.__main__ import main
from caffe_compat.data import lmdb_writer
from caffe_compat.data.images import decode_image
from prototxt.caffe_pb2 import Datum
from prototxt.caffemodel import read_blobproto
from prototxt.errors import FormatError
from tests.caffe_compat.databases import datum, write_leveldb, write_lmdb
from tests.caffe_compat.golden_data import GOLDEN
from tests.caffe_compat.tools.said import fail, run


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def records(path):
    with lmdb.open(str(path), readonly=True, lock=False) as env, env.begin() as transaction:
        return [(key.decode(), bytes(value)) for key, value in transaction.cursor()]


def datums(path):
    return {key: Datum.FromString(value) for key, value in records(path)}


def write_image(name, values):
    Image.fromarray(np.asarray(values, np.uint8)).save(name)


# ---- convert_imageset


@pytest.mark.parametrize(
    ("recorded", "flags"),
    [
        ("lmdb_raw", []),
        ("lmdb_encoded", ["-encoded"]),
        ("lmdb_encoded", ["--encode_type=PNG"]),
        ("lmdb_resized", ["-resize_height=16", "--resize_width", "20"]),
    ],
)
def test_records_are_caffes_byte_for_byte(folder, capsys, recorded, flags):
    said = run(capsys, "convert_imageset", *flags, f"{GOLDEN}/", GOLDEN / "class.txt", "db")
    assert said == ["A total of 5 images.", "Processed 5 files."]
    assert records(folder / "db") == records(GOLDEN / recorded)
    assert [path.name for path in folder.iterdir()] == ["db"]


def test_grey_pixels_and_grey_files(folder, capsys):
    write_image("colour.png", np.full((2, 3, 3), (255, 0, 0)))
    write_image("grey.png", np.full((2, 3), 40))
    (folder / "list.txt").write_text("colour.png 5\ngrey.png 6\n")
    red = 76  # 9797 · 255 >> 15
    run(capsys, "convert_imageset", "-gray", folder, "list.txt", "pixels")
    first, second = datums("pixels").values()
    assert (first.channels, first.height, first.width, first.label) == (1, 2, 3, 5)
    assert set(first.data) == {red} and set(second.data) == {40}
    run(capsys, "convert_imageset", "-gray", "-encoded", folder, "list.txt", "files")
    first, second = datums("files").values()
    assert np.array_equal(decode_image(first.data, None), np.full((2, 3), red)) and first.encoded
    assert second.data == (folder / "grey.png").read_bytes()


def test_files_are_encoded_anew_where_something_changes(folder, capsys):
    colours = np.arange(4 * 6 * 3).reshape(4, 6, 3)
    write_image("im.png", colours)
    (folder / "list.txt").write_text("im.png 1\n")
    run(capsys, "convert_imageset", "--encoded", "--resize_height=2", "--resize_width=3", folder, "list.txt", "a")
    run(capsys, "convert_imageset", "--resize_height=2", "--resize_width=3", folder, "list.txt", "b")
    (encoded,), (plain,) = datums("a").values(), datums("b").values()
    pixels = np.frombuffer(plain.data, np.uint8).reshape(3, 2, 3).transpose(1, 2, 0)
    assert np.array_equal(decode_image(encoded.data, None), pixels)
    run(capsys, "convert_imageset", "--encode_type=jpg", folder, "list.txt", "c")
    (jpeg,) = datums("c").values()
    assert Image.open(io.BytesIO(jpeg.data)).format == "JPEG"
    assert np.abs(decode_image(jpeg.data, None)[:, :, ::-1] - colours).max() < 12


def test_arrays_become_floats(folder, capsys):
    values = np.linspace(-1, 1, 2 * 3 * 5, dtype=np.float32).reshape(2, 3, 5)
    np.save("bands.npy", values)
    (folder / "list.txt").write_text("bands.npy 2\n")
    run(capsys, "convert_imageset", "", "list.txt", "db")
    (one,) = datums("db").values()
    assert (one.channels, one.height, one.width, one.data) == (5, 2, 3, b"")
    assert np.array_equal(np.float32(one.float_data), values.transpose(2, 0, 1).ravel())
    assert "no image format holds 2×3×5" in fail(capsys, "convert_imageset", "--encoded", "", "list.txt", "other")


def test_shuffle_keeps_every_image_with_its_class(folder, capsys):
    for number in range(20):
        write_image(f"{number}.png", [[number]])
    (folder / "list.txt").write_text("".join(f"{number}.png {number}\n" for number in range(20)))
    assert run(capsys, "convert_imageset", "--shuffle", folder, "list.txt", "db")[0] == "Shuffling data"
    shuffled = datums("db")
    labels = [one.label for one in shuffled.values()]
    assert labels != sorted(labels) and sorted(labels) == list(range(20))
    assert [one.data[0] for one in shuffled.values()] == labels
    assert list(shuffled) == [f"{place:08d}_{label}.png" for place, label in enumerate(labels)]
    for off in ("--noshuffle", "--shuffle=false", "-shuffle=0"):
        run(capsys, "convert_imageset", "--shuffle=true", off, folder, "list.txt", off.strip("-"))
        assert [one.label for one in datums(off.strip("-")).values()] == list(range(20))


def test_images_that_cannot_be_read_are_left_out_and_told(folder, capsys):
    write_image("good.png", [[1]])
    (folder / "bad.png").write_text("no image")
    (folder / "list.txt").write_text("bad.png 1\nmissing.png 2\ngood.png 3\n")
    said = run(capsys, "convert_imageset", folder, "list.txt", "db")
    assert "bad.png: not an image" in said[1] and "missing.png' does not exist: left out" in said[2]
    assert said[3:] == ["Processed 1 files."]
    assert list(datums("db")) == ["00000002_good.png"]
    (folder / "list.txt").write_text("bad.png 1\n")
    assert "no image of it can be read" in fail(capsys, "convert_imageset", folder, "list.txt", "other")
    assert not (folder / "other").exists()


def test_check_size_leaves_nothing_behind(folder, capsys):
    write_image("a.png", np.zeros((2, 3)))
    write_image("b.png", np.zeros((3, 3)))
    (folder / "list.txt").write_text("a.png 0\nb.png 0\n")
    error = fail(capsys, "convert_imageset", "--check_size", folder, "list.txt", "db")
    assert "b.png: is 3×3×3; expected 2×3×3" in error
    assert sorted(path.name for path in folder.iterdir()) == ["a.png", "b.png", "list.txt"]
    run(capsys, "convert_imageset", folder, "list.txt", "db")
    assert len(datums("db")) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--resize_height=4", "", "list.txt", "db"], "expected both or neither"),
        (["--encode_type=pgn", "", "list.txt", "db"], "did you mean 'pnm' or 'png'"),
        (["", "nothing.txt", "db"], "'nothing.txt' does not exist"),
        (["", "list.txt", "there"], "there: exists already"),
        (["", "list.txt", "no/db"], "there is no folder no"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(folder, capsys, words, said):
    (folder / "list.txt").write_text("a.png 0\n")
    (folder / "there").mkdir()
    assert said in fail(capsys, "convert_imageset", *words)
    assert not (folder / "db").exists()


def test_other_databases_are_refused(folder, capsys):
    with pytest.raises(SystemExit):
        main(["convert_imageset", "--backend", "leveldb", "", "list.txt", "db"])
    assert "lmdb" in capsys.readouterr().err.splitlines()[-1]


def test_a_database_outgrows_its_memory_map(folder, monkeypatch):
    monkeypatch.setattr(lmdb_writer, "_BATCH", 1 << 14)
    monkeypatch.setattr(lmdb_writer, "_FIRST_SIZE", 1 << 16)
    with lmdb_writer.new_lmdb("db") as database:
        for number in range(100):
            database.put(f"{number:03d}", bytes([number]) * 5000)
    assert records("db") == [(f"{number:03d}", bytes([number]) * 5000) for number in range(100)]
    assert (folder / "db").stat().st_mode & 0o111


def test_keys_have_a_longest(folder):
    with pytest.raises(FormatError, match="512 bytes; expected 511 at most"), lmdb_writer.new_lmdb("db") as database:
        database.put("k" * 512, b"")
    assert not list(folder.iterdir())


# ---- compute_image_mean


def test_mean_is_caffes_byte_for_byte(folder, capsys):
    said = run(capsys, "compute_image_mean", GOLDEN / "lmdb_raw", "mean.binaryproto")
    recorded = (GOLDEN / "mean.binaryproto").read_bytes()
    assert (folder / "mean.binaryproto").read_bytes() == recorded
    planes = read_blobproto(GOLDEN / "mean.binaryproto")[0]
    assert said == [
        "Starting iteration", "Processed 5 files.", "Write to mean.binaryproto", "Number of channels: 3",
        *[f"mean_value channel [{channel}]: {plane.mean():.6g}" for channel, plane in enumerate(planes)],
    ]  # fmt: skip
    run(capsys, "compute_image_mean", GOLDEN / "lmdb_encoded", "encoded.binaryproto")
    run(capsys, "compute_image_mean", "--list", GOLDEN / "class.txt", "class.binaryproto")
    run(capsys, "compute_image_mean", "--list", GOLDEN / "dense.txt", "dense.binaryproto")
    for name in ("encoded", "class", "dense"):
        assert (folder / f"{name}.binaryproto").read_bytes() == recorded


def test_mean_of_floats_and_of_a_leveldb(folder, capsys):
    values = [np.float32([[[1, 2]], [[3, 4]]]), np.float32([[[2, 4]], [[6, 8.5]]])]
    write_lmdb(folder / "db", map(datum, values))
    said = run(capsys, "compute_image_mean", "db", "mean.binaryproto")
    assert read_blobproto("mean.binaryproto").tolist() == [[[[1.5, 3]], [[4.5, 6.25]]]]
    assert said[-2:] == ["mean_value channel [0]: 2.25", "mean_value channel [1]: 5.375"]
    write_leveldb(folder / "leveldb", map(datum, values))
    assert run(capsys, "compute_image_mean", "leveldb", "-backend", "leveldb")[-3:] == said[-3:]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([datum(np.zeros((1, 2, 3), np.uint8)), datum(np.zeros((1, 3, 2), np.uint8))], "'00000001_im': is (3, 2, 1)"),
        ([b"\xff\xff"], "record '00000000_im': not a Datum"),
    ],
)
def test_records_that_make_no_mean(folder, capsys, values, said):
    write_lmdb(folder / "db", values)
    assert said in fail(capsys, "compute_image_mean", "db", "mean.binaryproto")
    assert not (folder / "mean.binaryproto").exists()


def test_lists_that_make_no_mean(folder, capsys):
    (folder / "list.txt").write_text("\n")
    assert "the list is empty" in fail(capsys, "compute_image_mean", "--list", "list.txt")
    (folder / "list.txt").write_text("im.png\n")
    assert "'im.png' does not exist" in fail(capsys, "compute_image_mean", "--list", "list.txt")
