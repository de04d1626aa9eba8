"""HDF5Data: rows, files, their order, and everything that can be wrong with them."""

import copy
import pickle
from itertools import permutations

import h5py
import numpy as np
import pytest

import caffe_compat as caffe
from caffe_compat.data.hdf5 import HDF5Source
from caffe_compat.errors import NetError
from caffe_compat.paths import Paths
from prototxt.caffe_pb2 import HDF5DataParameter
from prototxt.errors import FormatError, MissingFileError
from tests.caffe_compat.nets import net


@pytest.fixture
def write(tmp_path):
    """Writes files, each given by its datasets, and the list of them; gives the Paths."""

    def write(*files):
        for number, datasets in enumerate(files):
            with h5py.File(tmp_path / f"{number}.h5", "w") as file:
                for name, values in datasets.items():
                    file[name] = values
        (tmp_path / "list.txt").write_text("".join(f"{number}.h5\n" for number in range(len(files))))
        return Paths(tmp_path / "net.prototxt")

    return write


def numbered(*counts):
    """Files with so many rows, numbered through; ``x`` holds (10 n, 10 n + 1) in each."""
    starts = np.cumsum([0, *counts])
    rows = [np.arange(start, start + count) for start, count in zip(starts, counts, strict=False)]
    return [{"n": row.astype(np.int64), "x": 10.0 * row[:, None] + np.arange(2)} for row in rows]


def source(paths, seed=1, workers=1, names=("n", "x"), **fields):
    param = HDF5DataParameter(**{"source": "list.txt", "batch_size": 2} | fields)
    return HDF5Source(param, names, paths, seed, workers=workers)


def rows(batches, count):
    return [batches.next_batch()[0].astype(int).tolist() for _ in range(count)]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_run_on_across_files_and_round(write, workers):
    batches = source(write(*numbered(3, 1, 3)), workers=workers, batch_size=3)
    assert batches.top_shapes() == [(3,), (3, 2)]
    numbers = []
    for _ in range(5):
        n, x = batches.next_batch()
        assert n.dtype == x.dtype == np.float32
        assert np.array_equal(x, 10 * n[:, None] + [0, 1])
        numbers += n.tolist()
    assert numbers == [i % 7 for i in range(15)]
    assert batches.last_files[-1] == (f"{batches.files[0].path}: row 0",)


def test_batch_larger_than_all_files(write):
    assert rows(source(write(*numbered(2, 1)), batch_size=8), 1) == [[0, 1, 2, 0, 1, 2, 0, 1]]


def test_shuffle_takes_files_and_their_rows_in_a_new_order_each_time(write):
    batches = source(write(*numbered(3, 4, 5)), batch_size=12, shuffle=True)
    epochs = [row for (row,) in (rows(batches, 1) for _ in range(20))]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 20
    files = {"".join("aaabbbbccccc"[n] for n in epoch) for epoch in epochs}
    assert files <= {"".join(order) for order in permutations(["aaa", "bbbb", "ccccc"])}
    assert len(files) > 2


def test_equal_with_any_number_of_workers_and_by_seed(write):
    paths = write(*numbered(3, 4, 5))
    runs = [rows(source(paths, 7, workers, batch_size=5, shuffle=True), 20) for workers in (0, 1, 3)]
    assert runs[0] == runs[1] == runs[2]
    assert runs[0] != rows(source(paths, 8, batch_size=5, shuffle=True), 20)


def test_resume_and_copies_go_on(write):
    paths = write(*numbered(3, 4, 5))
    batches = source(paths, batch_size=5, shuffle=True)
    rows(batches, 4)
    other, state = source(paths, 9, batch_size=5, shuffle=True), batches.state_dict()
    assert state == {"seed": 1, "epoch": 1, "position": 8}
    other.load_state_dict(state)
    copies = [other, pickle.loads(pickle.dumps(batches)), copy.deepcopy(batches)]
    want = rows(batches, 6)
    assert [rows(one, 6) for one in copies] == [want] * 3


def test_as_a_torch_dataset(write):
    dataset = source(write(*numbered(3, 4)))
    assert len(dataset) == 7
    assert [int(n) for n, _ in dataset] == list(range(7))
    assert dataset[-1][1].tolist() == [60, 61]


def test_no_more_than_two_files_are_held(write):
    batches = source(write(*numbered(1, 1, 1, 1)), workers=0)
    rows(batches, 3)
    assert len(batches._loaded) == 2


def test_types_of_numbers(write):
    values = {"u": np.uint8([200]), "h": np.float16([0.5]), "b": np.array([True]), "d": np.float64([1e-3])}
    blobs = source(write(values), names=tuple(values), batch_size=1).next_batch()
    assert [blob.item() for blob in blobs] == [200, 0.5, 1, np.float32(1e-3)]


LAYER = """
layer { name: "d" type: "HDF5Data" top: "n" top: "x" hdf5_data_param { source: "SOURCE" batch_size: 2 MORE } }"""


def built(source, more="", **options):
    return net(LAYER.replace("SOURCE", str(source)).replace("MORE", more), **options)


def test_layer(write, tmp_path):
    write(*numbered(3))
    made = built(tmp_path / "list.txt")
    assert (made.blobs["n"].shape, made.blobs["x"].shape) == ((2,), (2, 2))
    made.forward()
    made.forward()
    assert made.blobs["n"].data.tolist() == [2, 0]
    resized = built(tmp_path / "list.txt", input_shapes={"n": (5,)})
    assert resized.blobs["x"].shape == (5, 2)


def test_random_seed_decides(write, tmp_path):
    write(*numbered(50))
    runs = []
    for seed in (3, 3, 4):
        caffe.set_random_seed(seed)
        runs.append(built(tmp_path / "list.txt", "shuffle: true").forward()["n"].tolist())
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize(
    ("shapes", "n", "x"),
    [
        ({}, (2, 3, 360, 480), (2, 1, 360, 480)),
        ({"n": (4, 1, 6, 8)}, (4, 1, 6, 8), (4, 1, 6, 8)),
        ({"n": (4, 7)}, (4, 7), (4,)),
        ({"n": (4, 7), "x": (4, 2, 2)}, (4, 7), (4, 2, 2)),
    ],
)
def test_net_without_its_files_is_fed_by_hand(shapes, n, x):
    made = built("/nowhere/list.txt", input_shapes=shapes)
    assert (made.blobs["n"].shape, made.blobs["x"].shape) == (n, x)
    with pytest.raises(MissingFileError, match=r"layer 'd' \(HDF5Data\): '/nowhere/list\.txt' does not exist"):
        made.forward()


def test_missing_file_of_a_list(write):
    paths = write(*numbered(1, 1, 1))
    paths.prototxt.with_name("1.h5").unlink()
    with pytest.raises(MissingFileError, match=r"(?s)'1\.h5' does not exist.*list\.txt: 1 of the 3 files .*: 1\.h5"):
        source(paths).next_batch()


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ([], r"list\.txt: the list is empty"),
        (
            [{"n": [1], "xs": [1]}],
            r"0\.h5: has no dataset 'x', after which the layer's top is named; did you mean 'xs'",
        ),
        ([{"n": [1], "x/y": [1]}], r"has no dataset 'x', .*; expected one of n"),
        ([{"n": [1, 2], "x": [1]}], r"0\.h5: the numbers of rows \(first axis\) are 2 in 'n', 1 in 'x'"),
        ([{"n": np.zeros(0), "x": np.zeros((0, 2))}], r"are 0 in 'n', 0 in 'x'; expected .* at least 1"),
        ([{"n": 3, "x": [1]}], r"0\.h5: dataset 'n' is a single value; expected rows"),
        ([{"n": ["a"], "x": [1j]}], r"(?s)2 problems:.*'n' holds object.*'x' holds complex128; expected numbers"),
        (
            [{"n": [1], "x": [[1, 2]]}, {"n": [1], "x": [[1]]}],
            r"1\.h5: the rows of 'x' .*\(1,\), those of .*0\.h5 \(2,\)",
        ),
    ],
)
def test_files_that_do_not_fit(write, files, told):
    with pytest.raises(FormatError, match=told):
        source(write(*files)).next_batch()


@pytest.mark.parametrize("keep", [0, 20, -8])
def test_truncated_file_names_the_layer(write, tmp_path, keep):
    write(*numbered(2000))
    whole = (tmp_path / "0.h5").read_bytes()
    (tmp_path / "0.h5").write_bytes(whole[:keep])
    with pytest.raises(NetError, match=r"layer 'd' \(HDF5Data\): .*0\.h5: HDF5 cannot read it .*Copy it or write it"):
        built(tmp_path / "list.txt")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (LAYER.replace("batch_size: 2", ""), "`batch_size` is 0 or missing"),
        (LAYER.replace('source: "SOURCE"', ""), "hdf5_data_param has no source"),
        (
            LAYER.replace("hdf5_data_param", "transform_param { scale: 1 } hdf5_data_param"),
            "HDF5Data knows no transform_param",
        ),
    ],
)
def test_settings_that_caffe_refuses(text, told):
    with pytest.raises(NetError, match=rf"layer 'd' \(HDF5Data\): {told}"):
        net(text.replace("MORE", ""))
