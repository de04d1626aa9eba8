"""Deconvolutions that start as bilinear interpolation."""

import numpy as np
import torch
import torch.nn.functional as F

import caffe_compat as caffe
from caffe_compat.fillers import fill
from prototxt.caffe_pb2 import FillerParameter
from segnet.bilinear_start import bilinear_kernel, main, start_bilinear
from segnet.networks import NETWORKS
from tests.caffe_compat.nets import AUTOENCODER, inputs, net


def test_kernel_is_caffes_where_its_filler_knows_the_factor():
    for factor in (2, 4, 8, 16):
        weight = torch.empty(1, 1, 2 * factor, 2 * factor)
        fill(weight, FillerParameter(type="bilinear"))
        torch.testing.assert_close(weight[0, 0].double(), bilinear_kernel(2 * factor, factor))


def test_each_map_is_enlarged_by_itself():
    built = caffe.Net(NETWORKS["fcn_basic"](61, 83, 5), caffe.TEST)
    assert start_bilinear(built) == ["deconv4", "deconv3", "deconv2", "deconv1"]
    x = torch.rand(2, 5, 8, 11, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = built.layer["deconv3"](x)[:, :, 1:-1, 1:-1]
    expected = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)[:, :, 1:-1, 1:-1]
    torch.testing.assert_close(found, expected)


def test_only_what_learns_and_enlarges():
    layer = (
        'layer {{ name: "{0}" type: "Deconvolution" bottom: "x" top: "{0}" param {{ lr_mult: {1} }} convolution_param '
        "{{ num_output: {2} kernel_size: 4 stride: {3} group: {4} bias_term: false weight_filler {{ value: 7 }} }} }}"
    )
    kinds = [("fixed", 0, 4, 2, 1), ("other", 1, 6, 2, 1), ("same", 1, 4, 1, 1), ("grouped", 1, 4, 2, 2)]
    text = inputs(x=(1, 4, 3, 3)) + "".join(layer.format(*kind) for kind in kinds)
    built = net(text)
    assert start_bilinear(built) == ["grouped"]
    assert all(np.all(built.params[name][0].data == 7) for name in ("fixed", "other", "same"))
    weight = built.params["grouped"][0].data  # map 3 is the second of its group
    assert np.all(weight[3, 1] == bilinear_kernel(4, 2).numpy()) and not weight[3, 0].any()


def test_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.prototxt").write_text(AUTOENCODER)
    arguments = ["fcn_basic_train", "start.caffemodel", "--input-size", "24x32"]
    assert main(arguments) == 0
    assert "bilinear are deconv4, deconv3, deconv2, deconv1" in capsys.readouterr().out
    started = caffe.Net(NETWORKS["fcn_basic"](24, 32, 11), "start.caffemodel", caffe.TEST).params
    assert np.all(started["deconv1"][0].data[3, 3] == bilinear_kernel(8, 2).float().numpy())
    assert not started["deconv1"][0].data[3, 4].any() and started["conv1"][0].data.std() > 0
    assert main(arguments) == 1 and "start.caffemodel: exists already" in capsys.readouterr().err
    assert (
        main([*arguments[:1], "again.caffemodel", *arguments[2:], "--weights", "start.caffemodel", "--seed", "1"]) == 0
    )
    again = caffe.Net(NETWORKS["fcn_basic"](24, 32, 11), "again.caffemodel", caffe.TEST).params
    assert np.array_equal(again["conv1"][0].data, started["conv1"][0].data)
    assert main(["small.prototxt", "none.caffemodel"]) == 1
    assert "no learnt deconvolution that enlarges" in capsys.readouterr().err
    assert not (tmp_path / "none.caffemodel").exists()
