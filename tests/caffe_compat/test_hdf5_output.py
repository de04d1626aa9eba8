"""HDF5Output: what is in the file after each pass."""

import h5py
import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from tests.caffe_compat.nets import inputs, net


def writer(file_name, x=(2, 3), y=(2,), **options):
    text = f'layer {{ name: "out" type: "HDF5Output" bottom: "x" bottom: "y" {file_name} }}'
    return net(inputs(x=x, y=y) + text, **options)


def named(path):
    return f'hdf5_output_param {{ file_name: "{path}" }}'


def contents(path):
    with h5py.File(path) as file:
        assert set(file) == {"data", "label"}
        assert file["data"].dtype == file["label"].dtype == np.float32
        return file["data"][()], file["label"][()]


def test_every_pass_appends_and_the_first_begins_anew(tmp_path):
    path = tmp_path / "out.h5"
    path.write_text("what was there before")
    built = writer(named(path))
    assert path.read_text() == "what was there before"
    for count in (1, 2, 3):
        built.forward(x=np.full((2, 3), count), y=np.array([count, -count]))
        data, label = contents(path)
        assert data.shape == (2 * count, 3, 1, 1) and label.shape == (2 * count, 1, 1, 1)
        assert data[:, 0, 0, 0].tolist() == [1, 1, 2, 2, 3, 3][: 2 * count]
        assert label.ravel().tolist() == [1, -1, 2, -2, 3, -3][: 2 * count]
    writer(named(path)).forward()
    assert [len(half) for half in contents(path)] == [2, 2]


def test_batches_of_another_size_and_the_torch_face(tmp_path):
    built = writer(named(tmp_path / "out.h5"), x=(2, 3, 4, 40, 60), y=(2, 1, 7, 7))
    x = torch.rand(2, 3, 4, 40, 60, requires_grad=True)
    built(x=x, y=torch.ones(2, 1, 7, 7))
    built(x=x[:1], y=torch.ones(1, 1, 7, 7))
    data, label = contents(tmp_path / "out.h5")
    assert label.shape == (3, 1, 7, 7)
    assert np.array_equal(data, torch.cat([x, x[:1]]).detach().numpy())
    assert (tmp_path / "out.h5").stat().st_size < 1.5 * data.nbytes


def test_path_is_mapped_and_its_folder_made(tmp_path):
    writer(named("/elsewhere/deep/out.h5"), roots=[("/elsewhere", str(tmp_path))]).forward()
    assert len(contents(tmp_path / "deep" / "out.h5")) == 2


def test_items_of_another_shape(tmp_path):
    built = writer(named(tmp_path / "out.h5"))
    built.forward()
    built.blobs["x"].reshape(2, 4)
    with pytest.raises(
        NetError, match=r"layer 'out'.*holds items \(3, 1, 1\) in 'data', the next ones are \(4, 1, 1\)"
    ):
        built.forward()
    assert len(contents(tmp_path / "out.h5")[0]) == 2


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(NetError, match="has no `file_name`"):
        writer("")
    with pytest.raises(NetError, match=r"data \(2, 3\) and label \(3,\); expected as many items"):
        writer(named("x.h5"), y=(3,))
    with pytest.raises(NetError, match=r"layer 'out'.*cannot be written"):
        writer(named(tmp_path)).forward()
