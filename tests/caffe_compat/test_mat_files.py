"""MatWrite and MatRead, and the MATLAB files between them."""

import struct
import zlib

import numpy as np
import pytest

from caffe_compat.data.mat_file import read_mat, write_mat
from caffe_compat.errors import NetError
from prototxt.errors import FormatError, MissingFileError
from tests.caffe_compat.nets import inputs, net


def writer(param, **shapes):
    bottoms = " ".join(f'bottom: "{name}"' for name in shapes)
    return net(inputs(**shapes) + f'\nlayer {{ name: "w" type: "MatWrite" {bottoms} mat_write_param {{ {param} }} }}')


def reader(folder, param="", top='top: "y"'):
    text = f'layer {{ name: "r" type: "MatRead" {top} mat_read_param {{ prefix: "{folder}/" {param} }} }}'
    return net(text)


def test_blobs_are_written_and_read(tmp_path):
    (tmp_path / "list.txt").write_text("one.jpg label.png\ntwo.jpg label.png\n")
    built = writer(f'prefix: "{tmp_path}/out/" source: "{tmp_path}/list.txt" strip: 4', x=(1, 2, 3, 4), v=(1, 5))
    items = np.random.default_rng(0).normal(size=(2, 1, 2, 3, 4)).astype(np.float32)
    for item in items:
        built.forward(x=item, v=np.arange(5.0)[None])
    stored = read_mat(tmp_path / "out" / "one_blob_0.mat")["data"]
    assert stored.shape == (4, 3, 2, 1) and np.array_equal(stored[..., 0].T, items[0, 0])
    assert read_mat(tmp_path / "out" / "two_blob_1.mat")["data"].shape == (1, 1, 5, 1)
    listed = f'source: "{tmp_path}/list.txt" strip: 4 batch_size: 3'
    read = reader(tmp_path / "out", listed, 'top: "x" top: "v"').forward()
    assert np.array_equal(read["x"], items[[0, 1, 0], 0]) and read["v"].shape == (3, 5, 1, 1)
    with pytest.raises(NetError, match=r"pass 3, but .* has only 2 lines"):
        built.forward(x=items[0], v=np.arange(5.0)[None])


def test_every_second_pass_is_written_under_its_number(tmp_path):
    built = writer(f'prefix: "{tmp_path}/" period: 2', x=(1, 1))
    for i in range(3):
        built.forward(x=np.full((1, 1), i))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["iter_0_blob_0.mat", "iter_2_blob_0.mat"]
    assert read_mat(tmp_path / "iter_2_blob_0.mat")["data"].item() == 2


def element(order, kind, body):
    return struct.pack(f"{order}2I", kind, len(body)) + body + b"\0" * (-len(body) % 8)


@pytest.mark.parametrize("order", "<>")
def test_files_that_matlab_writes(tmp_path, order):
    """Numbers in fewer bytes than their class has, small elements, compression, further content."""
    small = struct.pack(f"{order}I", (4 << 16) | 1) + b"data"
    matrix = element(order, 6, struct.pack(f"{order}2I", 6, 0)) + element(order, 5, struct.pack(f"{order}2i", 2, 2))
    matrix = element(order, 14, matrix + small + element(order, 4, struct.pack(f"{order}4H", 1, 2, 3, 400)))
    text = element(order, 14, element(order, 6, struct.pack(f"{order}2I", 4, 0)) + element(order, 5, b"") + small)
    packed = zlib.compress(matrix)
    content = text + struct.pack(f"{order}2I", 15, len(packed)) + packed
    mark = b"IM" if order == "<" else b"MI"
    (tmp_path / "m.mat").write_bytes(b"MATLAB 5.0".ljust(124) + struct.pack(f"{order}H", 256) + mark + content)
    found = read_mat(tmp_path / "m.mat")
    assert list(found) == ["data"] and found["data"].tolist() == [[1, 3], [2, 400]]


def test_unreadable_files(tmp_path):
    path = tmp_path / "m.mat"
    with pytest.raises(MissingFileError, match="does not exist"):
        read_mat(path)
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(126) + b"IM")
    with pytest.raises(FormatError, match="not a MATLAB file of level 5"):
        read_mat(path)
    write_mat(path, "data", np.ones((2, 3)))
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(FormatError, match="damaged"):
        read_mat(path)


def test_wrong_settings(tmp_path):
    with pytest.raises(NetError, match="`period: 0`"):
        writer('prefix: "p" period: 0', x=(1, 1))
    with pytest.raises(NetError, match="expected at most 4 axes"):
        writer('prefix: "p"', x=(1, 1, 1, 1, 1))
    with pytest.raises(NetError, match="expected a list and at least 1"):
        reader(tmp_path)
    (tmp_path / "list.txt").write_text("one\n")
    with pytest.raises(NetError, match="'one' in the list; expected more than 3 characters"):
        reader(tmp_path, f'source: "{tmp_path}/list.txt" strip: 3')
    with pytest.raises(NetError, match=r"one_blob_0\.mat' does not exist"):
        reader(tmp_path, f'source: "{tmp_path}/list.txt"')
    write_mat(tmp_path / "one_blob_0.mat", "other", np.ones((1, 1)))
    with pytest.raises(NetError, match="holds other; expected 'data'"):
        reader(tmp_path, f'source: "{tmp_path}/list.txt"')
    write_mat(tmp_path / "one_blob_0.mat", "data", np.ones((1, 1, 1, 2)))
    with pytest.raises(NetError, match=r"an array of \(1, 1, 1, 2\); expected \(W, H, C, 1\)"):
        reader(tmp_path, f'source: "{tmp_path}/list.txt"')


def test_items_of_different_sizes(tmp_path):
    (tmp_path / "list.txt").write_text("a\nb\n")
    write_mat(tmp_path / "a_blob_0.mat", "data", np.ones((1, 1, 1, 1)))
    write_mat(tmp_path / "b_blob_0.mat", "data", np.ones((2, 1, 1, 1)))
    built = reader(tmp_path, f'source: "{tmp_path}/list.txt" batch_size: 2')
    with pytest.raises(NetError, match="expected them alike"):
        built.forward()
