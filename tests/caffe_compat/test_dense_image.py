import gc
import logging
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from caffe_compat.data.dense_image import DenseImageSource
from caffe_compat.errors import LayerError
from caffe_compat.paths import Paths
from prototxt.caffe_pb2 import TEST, DenseImageDataParameter, TransformationParameter
from prototxt.errors import FormatError, MissingFileError
from tests.caffe_compat.golden_data import GOLDEN, layer_of

CASES = sorted(path.stem for path in GOLDEN.glob("dense_*.npz"))


def source(param=None, transform=None, seed=1, dialect="segnet", paths=None, workers=1, **fields):
    param = param or DenseImageDataParameter(**{"source": "dense.txt", "batch_size": 2} | fields)
    transform = transform or TransformationParameter()
    return DenseImageSource(param, transform, TEST, dialect, paths or Paths(GOLDEN / "x"), seed, workers=workers)


@pytest.fixture
def write(tmp_path):
    """Writes images and labels, given by their sizes (width, height), and the list of them; gives the Paths."""

    def write(*pairs):
        for number, (size, label_size) in enumerate(pairs):
            pixels = np.arange(size[0] * size[1], dtype=np.uint16).astype(np.uint8).reshape(size[::-1])
            Image.fromarray(np.stack([pixels, pixels + number, pixels], 2)).save(tmp_path / f"im{number}.png")
            if label_size == size:
                Image.fromarray(pixels).save(tmp_path / f"lab{number}.png")
            else:
                Image.new("L", label_size).save(tmp_path / f"lab{number}.png")
        lines = [f"im{number}.png lab{number}.png\n" for number in range(len(pairs))]
        (tmp_path / "dense.txt").write_text("".join(lines))
        return Paths(tmp_path / "net.prototxt")

    return write


def square(size=12):
    return (size, size), (size, size)


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("case", CASES)
def test_recorded(case, workers):
    layer = layer_of(case)
    batches = source(layer.dense_image_data_param, layer.transform_param, workers=workers)
    with np.load(GOLDEN / f"{case}.npz") as want:
        for number in range(4):
            data, label = batches.next_batch()
            assert data.dtype == label.dtype == np.float32
            np.testing.assert_allclose(data, want[f"batch{number}:data"], rtol=0, atol=1e-4, strict=True)
            np.testing.assert_array_equal(label, want[f"batch{number}:label"], strict=True)
        assert batches.top_shapes() == [data.shape, label.shape]


def test_recorded_cases_are_all_here():
    assert len(CASES) == 7


def test_last_files_and_wrap_around():
    batches = source()
    names = []
    for _ in range(5):
        batches.next_batch()
        names += [files.label.name for files in batches.last_files]
    assert names == [f"lab{i % 5}.png" for i in range(10)]


def test_root_folder_is_put_in_front_as_it_is(tmp_path, write):
    write(square())
    (tmp_path / "dense.txt").write_text("m0.png m0.png")
    batches = source(paths=Paths(tmp_path / "net.prototxt"), root_folder=f"{tmp_path}/i", batch_size=1)
    batches.next_batch()
    assert batches.last_files[0].image == tmp_path / "im0.png"


@pytest.mark.parametrize("crop", [{}, {"crop_height": 5, "crop_width": 9}])
def test_mirror_and_crop_keep_image_and_label_together(write, crop):
    paths = write(*[square()] * 3)
    batches = source(paths=paths, batch_size=3, mirror=True, **crop)
    offsets, mirrored = set(), set()
    for _ in range(60):
        data, label = batches.next_batch()
        assert np.array_equal(data[:, 0], label[:, 0])
        assert data.shape == (3, 3, crop.get("crop_height", 12), crop.get("crop_width", 12))
        mirrored |= set((label[:, 0, 0, 0] > label[:, 0, 0, 1]).tolist())
        offsets |= {divmod(int(low), 12) for low in label.min((1, 2, 3))}
    assert mirrored == {False, True}
    assert offsets == ({(y, x) for y in range(8) for x in range(4)} if crop else {(0, 0)})


def test_resize_comes_before_mirror_and_crop(write):
    whole = source(paths=write(square()), batch_size=1, new_height=20, new_width=17).next_batch()[0]
    part = source(paths=write(square()), batch_size=1, new_height=20, new_width=17, crop_height=4, crop_width=17)
    windows = np.lib.stride_tricks.sliding_window_view(whole[0], 4, 1).transpose(1, 0, 3, 2)
    assert (windows == part.next_batch()[0]).all((1, 2, 3)).any()


def test_mean_file_has_the_size_after_the_crop():
    mean = TransformationParameter(mean_file="mean.binaryproto")
    assert source(transform=mean, crop_height=24, crop_width=32).next_batch()[0].min() < 0
    with pytest.raises(LayerError, match=r"im0\.png: mean_file has the shape \(3, 24, 32\), the image \(3, 10, 10\)"):
        source(transform=mean, crop_height=10, crop_width=10).next_batch()


def batches_of(**options):
    batches = source(shuffle=True, mirror=True, crop_height=11, crop_width=13, rand_skip=3, **options)
    return [(*batches.next_batch(), batches.last_files) for _ in range(8)]


def same(some, others):
    return all(
        np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1]) and a[2] == b[2]
        for a, b in zip(some, others, strict=True)
    )


def test_reproducible_with_any_number_of_workers():
    runs = [batches_of(seed=7, workers=workers) for workers in (0, 1, 3)]
    assert same(runs[0], runs[1])
    assert same(runs[0], runs[2])
    assert not same(runs[0], batches_of(seed=8))


@pytest.mark.parametrize("seed", [None, -1])
def test_without_a_seed_every_run_differs(seed):
    assert not same(batches_of(seed=seed), batches_of(seed=seed))


def test_shuffle_takes_everything_once_in_each_epoch():
    batches = source(shuffle=True, batch_size=1)
    epochs = []
    for _ in range(4):
        epochs.append([(batches.next_batch(), batches.last_files[0].image.name)[1] for _ in range(5)])
    assert all(sorted(epoch) == [f"im{i}.png" for i in range(5)] for epoch in epochs)
    assert len(set(map(tuple, epochs))) > 1


def test_rand_skip():
    starts = set()
    for seed in range(30):
        batches = source(seed=seed, rand_skip=3)
        batches.next_batch()
        starts.add(batches.last_files[0].image.name)
    assert starts == {"im0.png", "im1.png", "im2.png"}
    with pytest.raises(LayerError, match="rand_skip 6"):
        source(rand_skip=6).next_batch()


@pytest.mark.parametrize("workers", [0, 2])
def test_resume(workers):
    options = {"shuffle": True, "mirror": True, "workers": workers}
    batches = source(seed=3, **options)
    for _ in range(4):
        batches.next_batch()
    state = batches.state_dict()
    assert state == {"seed": 3, "epoch": 1, "position": 3}
    want = [batches.next_batch() for _ in range(4)]
    other = source(seed=9, **options)
    other.next_batch()
    other.load_state_dict(state)
    for data, label in want:
        got = other.next_batch()
        assert np.array_equal(got[0], data)
        assert np.array_equal(got[1], label)


def test_pickle_goes_on_where_it_was():
    batches = source(shuffle=True)
    batches.next_batch()
    copy = pickle.loads(pickle.dumps(batches))
    assert np.array_equal(copy.next_batch()[0], batches.next_batch()[0])


def test_as_a_torch_dataset():
    dataset = source(mirror=True)
    assert len(dataset) == 5
    assert len(list(dataset)) == 5
    image, label = dataset[-1]
    assert image.shape == (3, 24, 32)
    assert image.dtype == torch.float32
    assert label.shape == (24, 32)
    assert label.dtype == torch.int64
    for workers in (0, 2):
        batches = list(DataLoader(dataset, batch_size=2, num_workers=workers))
        assert [len(images) for images, _ in batches] == [2, 2, 1]
        assert torch.equal(batches[2][0][0], image)


def test_threads_end_with_close():
    before = set(threading.enumerate())
    batches = source(workers=3)
    batches.next_batch()
    started = set(threading.enumerate()) - before
    batches.close()
    assert started
    assert not any(thread.is_alive() for thread in started)
    batches.next_batch()
    assert [files.image.name for files in batches.last_files] == ["im2.png", "im3.png"]


def test_threads_end_with_the_source():
    before = set(threading.enumerate())
    batches = source(workers=2)
    batches.next_batch()
    started = set(threading.enumerate()) - before
    del batches
    deadline = time.monotonic() + 10
    while any(thread.is_alive() for thread in started) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    assert not any(thread.is_alive() for thread in started)


def test_program_ends_while_reading_ahead(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "from tests.caffe_compat.test_dense_image import source\nb = source(workers=2)\nb.next_batch()\nprint('end')\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, program], cwd=root, env={"PYTHONPATH": str(root)}, capture_output=True, timeout=60, text=True
    )
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr


def test_palette_label_is_told_once(caplog):
    batches = source(source="palette.txt", workers=2)
    for _ in range(3):
        batches.next_batch()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "palette_label.png" in caplog.text
    assert "Image.fromarray" in caplog.text


def test_plain_labels_are_not_told(caplog):
    source().next_batch()
    assert not caplog.records


def test_batch_of_one_follows_each_image(write):
    batches = source(paths=write(square(12), square(13), ((7, 5), (7, 5))), batch_size=1)
    assert batches.top_shapes() == [(1, 3, 12, 12), (1, 1, 12, 12)]
    shapes = [batches.next_batch()[1].shape[2:] for _ in range(4)]
    assert shapes == [(12, 12), (13, 13), (5, 7), (12, 12)]


@pytest.mark.parametrize("workers", [0, 1])
def test_sizes_in_one_batch_must_agree(write, workers):
    batches = source(paths=write(square(12), square(13)), workers=workers)
    for _ in range(2):  # the same batch is tried again
        with pytest.raises(LayerError, match=r"im0.png and .*im1.png .*\(3, 12, 12\) and \(3, 13, 13\)"):
            batches.next_batch()


def test_label_of_another_size(write):
    with pytest.raises(LayerError, match=r"im0.png is 12×10 and its label .*lab0.png 12×11"):
        source(paths=write(((12, 10), (12, 11)))).top_shapes()


def test_crop_larger_than_an_image(write):
    with pytest.raises(LayerError, match=r"13×12 is larger than .*im0.png with 12×12"):
        source(paths=write(square()), crop_height=12, crop_width=13).top_shapes()


def test_label_divide_factor(write):
    fields = {"batch_size": 1, "new_height": 21, "new_width": 30, "label_divide_factor": 8}
    batches = source(paths=write(square()), dialect="enet", **fields)
    assert batches.top_shapes() == [(1, 3, 21, 30), (1, 1, 2, 3)]
    assert [blob.shape for blob in batches.next_batch()] == batches.top_shapes()


def test_grey_top_shapes():
    assert source(is_color=False).top_shapes() == [(2, 1, 24, 32), (2, 1, 24, 32)]


def test_arrays_with_many_channels(tmp_path):
    np.save(tmp_path / "im.npy", np.ones((12, 12, 5), np.float32))
    np.save(tmp_path / "lab.npy", np.full((12, 12), 300))
    (tmp_path / "dense.txt").write_text("im.npy lab.npy")
    data, label = source(paths=Paths(tmp_path / "x"), batch_size=1, new_height=6, new_width=6).next_batch()
    assert data.shape == (1, 5, 6, 6)
    assert (label == 300).all()


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"new_height": 5}, "new_height without new_width"),
        ({"crop_width": 5}, "crop_width without crop_height"),
        ({"batch_size": 0}, "no batch_size"),
        ({"source": ""}, "no source"),
        ({"label_divide_factor": 8}, "needs new_height"),
        ({"label_divide_factor": 0, "new_height": 5, "new_width": 5}, "expected 1 to 5"),
        ({"label_divide_factor": 8, "new_height": 5, "new_width": 9}, "expected 1 to 5"),
    ],
)
def test_settings_that_caffe_refuses(fields, told):
    with pytest.raises(LayerError, match=told):
        source(**fields)


@pytest.mark.parametrize(("dialect", "told"), [("segnet", "Caffe stops"), ("enet", "independently")])
def test_transform_param_that_forgets_the_label(dialect, told):
    with pytest.raises(LayerError, match=told) as error:
        source(
            transform=TransformationParameter(mirror=True, crop_size=5, mean_file="x", mean_value=[1]), dialect=dialect
        )
    assert len(error.value.problems) == 3


def test_mean_file_without_effect_is_told(caplog):
    source(mean_file="x.binaryproto").next_batch()
    assert "no effect" in caplog.text


def test_missing_list():
    batches = source(source="/SegNet/none.txt")
    with pytest.raises(MissingFileError, match="--root /SegNet=FOLDER"):
        batches.top_shapes()


def test_missing_images_are_counted(tmp_path, write):
    paths = write(*[square()] * 4)
    for name in ("im1.png", "lab3.png"):
        (tmp_path / name).unlink()
    batches = source(paths=paths)
    with pytest.raises(MissingFileError, match=r"2 of the 8 files it names are missing: im1.png, lab3.png"):
        batches.next_batch()


def test_image_and_label_that_lead_to_one_file(tmp_path, write):
    write(square())
    (tmp_path / "dense.txt").write_text("/SegNet/train/im0.png /SegNet/trainannot/im0.png")
    with pytest.raises(LayerError, match="both lead to"):
        source(paths=Paths(tmp_path / "x")).top_shapes()


def test_damaged_image_comes_out_of_the_thread(tmp_path, write):
    paths = write(*[square()] * 4)
    (tmp_path / "im2.png").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    batches = source(paths=paths, workers=2)
    batches.next_batch()
    with pytest.raises(FormatError, match="git lfs pull"):
        batches.next_batch()
