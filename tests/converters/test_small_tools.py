"""inspect, diff, resize-net and estimate, on small files and through the command line."""

import numpy as np
import pytest

import caffe_compat as caffe
from converters.__main__ import main
from converters.inspection import remarks
from prototxt.caffemodel import write_blobproto
from prototxt.net_file import find_net, read_net
from tests.caffe_compat.nets import AUTOENCODER
from tests.caffe_compat.training.nets import lay_out


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(AUTOENCODER)
    caffe.set_random_seed(0)
    caffe.Net("net.prototxt", caffe.TEST).save("a.caffemodel")
    return tmp_path


def out(capsys, *words, status=0):
    capsys.readouterr()
    assert main(list(words)) == status
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([1, 2], ""),
        ([0, 0], "all zero"),
        ([3, 3], "all 3"),
        ([0], ""),
        ([np.nan, 1, np.nan], "2 NaN"),
        ([np.inf, 1e6], "1 inf, up to 1e+06"),
        ([], "empty"),
    ],
)
def test_remarks(values, said):
    assert remarks(np.array(values, np.float32)) == said


def test_inspect_weights(folder, capsys):
    text = out(capsys, "inspect", "a.caffemodel")
    assert text.startswith("weights in segnet, generation V2, net '': 7 layers, 130 values\n")
    row = next(line for line in text.splitlines() if line.startswith("bn1"))
    assert row.split()[1:4] == ["BN", "1×4×1×1", "1"] and row.endswith("all 1")
    caffe.Net("net.prototxt", "a.caffemodel", caffe.TEST).save("a.caffemodel.h5")
    assert out(capsys, "inspect", "a.caffemodel.h5").startswith("weights in HDF5: 7 layers, 130 values")


def test_inspect_other_files(folder, capsys):
    text = out(capsys, "inspect", "net.prototxt")
    assert "dialect segnet (assumed" in text and "conv1" in text and "inputs data" in text
    lay_out(folder)
    assert out(capsys, "inspect", "solver.prototxt") == (
        "solver SGD, rate 0.1, policy fixed, 10 iterations, net 'net.prototxt'\n"
    )
    caffe.get_solver("solver.prototxt").snapshot()
    text = out(capsys, "inspect", "small_iter_0.solverstate")
    assert text.startswith("solver state (binary) of iteration 0, step 0, weights 'small_iter_0.caffemodel'")
    write_blobproto("mean.binaryproto", np.full((1, 3, 2, 2), 7, np.float32))
    assert out(capsys, "inspect", "mean.binaryproto") == (
        "mean image, mean 1×3×2×2: mean 7, deviation 0, 7 to 7 (all 7)\n"
    )
    (folder / "page.caffemodel").write_text("<html>")
    assert main(["inspect", "page.caffemodel"]) == 1 and "a web page" in capsys.readouterr().err


def test_diff_of_weights(folder, capsys):
    assert out(capsys, "diff", "a.caffemodel", "a.caffemodel") == "no difference\n"
    net = caffe.Net("net.prototxt", "a.caffemodel", caffe.TEST)
    net.params["conv1"][1].data[2] += 0.5
    net.save("b.caffemodel.h5")
    text = out(capsys, "diff", "a.caffemodel", "b.caffemodel.h5", status=1)
    assert "conv1" in text and "blob 1: 1 of 4 values" in text and "0.5" in text and "score" not in text
    other = AUTOENCODER.replace('name: "score"', 'name: "other"').replace("output: 4", "output: 5")
    (folder / "other.prototxt").write_text(other)
    caffe.Net("other.prototxt", caffe.TEST).save("c.caffemodel")
    text = out(capsys, "diff", "a.caffemodel", "c.caffemodel", status=1)
    assert "only in A" in text and "only in B" in text and "blob 0: (4, 3, 3, 3) and (5, 3, 3, 3)" in text


def test_diff_of_nets(folder, capsys):
    (folder / "other.prototxt").write_text(AUTOENCODER.replace("num_output: 4", "num_output: 6"))
    text = out(capsys, "diff", "net.prototxt", "other.prototxt", status=1)
    assert "-    num_output: 4" in text and "+    num_output: 6" in text
    assert out(capsys, "diff", "net.prototxt", "net.prototxt") == "no difference\n"


@pytest.mark.parametrize("size", [(11, 13), (360, 480), (375, 500)])
def test_resized_nets_run(folder, capsys, size):
    name = f"net_{size[0]}x{size[1]}.prototxt"
    text = out(capsys, "resize-net", "net.prototxt", f"--size={size[0]}x{size[1]}")
    assert f"up1: upsample_h {size[0]}, upsample_w {size[1]}" in text and f"wrote {name}" in text
    net = caffe.Net(name, "a.caffemodel", caffe.TEST)
    assert net.blobs["prob"].shape == (1, 2, *size) and not net.layer_dict["up1"].remarks()
    assert main(["resize-net", "net.prototxt", f"--size={size[0]}x{size[1]}"]) == 1


@pytest.mark.parametrize("name", ["segnet", "segnet_basic", "segnet_train", "bayesian_segnet_basic_train"])
def test_shipped_nets_at_an_odd_size(folder, capsys, name):
    text = out(capsys, "resize-net", name, "--size=187x251", "--output=odd.prototxt")
    assert ("data: new_height 187, new_width 251" in text) == name.endswith("train")
    planes = [
        (layer.upsample_param.upsample_h, layer.upsample_param.upsample_w)
        for layer in read_net("odd.prototxt").message.layer
        if layer.type == "Upsample"
    ]
    assert planes[-2:] == [(94, 126), (187, 251)]
    assert [layer.name for layer in read_net("odd.prototxt").message.layer] == [
        layer.name for layer in read_net(find_net(name)).message.layer
    ]


def test_a_crop_stays_a_crop(folder, capsys):
    (folder / "net.prototxt").write_text("""
layer { name: "data" type: "DenseImageData" top: "data" top: "label"
  dense_image_data_param { source: "x" batch_size: 1 crop_height: 8 crop_width: 8 } }""")
    assert "data: crop_height 6, crop_width 4" in out(capsys, "resize-net", "net.prototxt", "--size=6x4")


def test_estimate(folder, capsys):
    text = out(capsys, "estimate", "net.prototxt", "--input-size=20x28")
    assert "1×2×20×28" in text and "to train, checkpointing: about" in text and "(batch of 1;" in text


def test_commands_explain_themselves(capsys):
    assert "resize-net" in out(capsys, "--help")
    assert main(["insect", "x"]) == 2 and "did you mean 'inspect'" in capsys.readouterr().err
