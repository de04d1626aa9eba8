"""Nets written as Python."""

import pytest

from prototxt import text
from prototxt.caffe_pb2 import NetParameter
from prototxt.errors import CaffeError
from prototxt.net_spec import NetSpec, net_input, to_proto
from prototxt.net_spec import layers as L
from prototxt.net_spec import params as P


def parsed(content):
    return text.parse(content, NetParameter)[0]


def test_a_net_with_everything():
    n = NetSpec()
    n.data = net_input(1, 3, 8, 8)
    n.conv1 = L.Convolution(
        n.data,
        num_output=4,
        kernel_size=3,
        pad=[1],
        weight_filler=dict(type="msra"),
        param=[dict(lr_mult=1), dict(lr_mult=2)],
    )
    n.relu1 = L.ReLU(n.conv1, in_place=True)
    n.pool1, n.mask1 = L.Pooling(n.relu1, ntop=2, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    n.up = L.Upsample(n.pool1, n.mask1, upsample_h=8, upsample_w=8)
    n.loss = L.SoftmaxWithLoss(n.up, n.data, loss_param=dict(ignore_label=11, class_weighting=[1, 2.5]), loss_weight=2)
    n.quiet = L.Silence(n.mask1, ntop=0, include=dict(phase=0))
    assert n.to_proto() == parsed("""
input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" param { lr_mult: 1 } param { lr_mult: 2 }
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: "msra" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" top: "mask1"
  pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "up" type: "Upsample" bottom: "pool1" bottom: "mask1" top: "up"
  upsample_param { upsample_h: 8 upsample_w: 8 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "up" bottom: "data" top: "loss" loss_weight: 2
  loss_param { ignore_label: 11 class_weighting: 1 class_weighting: 2.5 } }
layer { name: "Silence1" type: "Silence" bottom: "mask1" include { phase: TRAIN } }""")


def test_names_that_nobody_gave():
    a = L.Convolution(L.Input(shape=dict(dim=[1, 3, 4, 4])), num_output=1, kernel_size=1)
    assert [layer.name for layer in to_proto(L.ReLU(a), L.ReLU(a)).layer] == [
        "Input1",
        "Convolution1",
        "ReLU1",
        "ReLU2",
    ]
    assert a.to_proto().layer[1].bottom == ["Input1"]


def test_layers_come_after_what_they_need_and_once():
    n = NetSpec()
    data = L.DummyData(shape=dict(dim=[1]))
    n.b = L.ReLU(data)
    n["c"] = L.ReLU(n.b)
    n.update({"data": data})
    assert [(layer.name, list(layer.bottom)) for layer in n.to_proto().layer] == [
        ("data", []),
        ("b", ["data"]),
        ("c", ["b"]),
    ]


def test_own_messages_follow_from_the_schema():
    made = to_proto(
        L.DenseImageData(source="s", batch_size=2, ntop=2)[0],
        L.BN(net_input(1), bn_mode=P.BN.INFERENCE, name="norm"),
        L.InnerProduct(net_input(1), num_output=2, name="ip"),
    )
    assert made.layer[0].dense_image_data_param.source == "s"
    assert (made.layer[1].bn_param.bn_mode, made.layer[1].name) == (1, "norm")
    assert made.layer[2].inner_product_param.num_output == 2 and made.layer[2].name == "ip"


def test_pycaffe_has_the_same_names():
    import caffe_compat as caffe

    n = caffe.NetSpec()
    n.x = caffe.layers.DummyData(shape=dict(dim=[1, 2]))
    assert caffe.to_proto(n.x).layer[0].name == "DummyData1" and caffe.params.LRN.WITHIN_CHANNEL == 1


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            lambda: L.Convolution(net_input(1), kernal_size=3),
            "L.Convolution 'Convolution1': there is no parameter 'kernal_size'.*'kernel_size'",
        ),
        (
            lambda: L.Convolution(net_input(1), weight_filler=dict(typ="msra")),
            "FillerParameter has no field 'typ'.*'type'",
        ),
        (lambda: L.Convolution(net_input(1), weight_filler="msra"), "expected a dict of FillerParameter"),
        (lambda: L.Convolution(net_input(1), num_output="x"), "'num_output' is given 'x'"),
        (lambda: L.ReLU(net_input(1), colour=1), "no parameter 'colour'; remove it"),
        (lambda: L.Accuracy(net_input(1), loss_parm={}), "no parameter 'loss_parm'.*'loss_param'"),
    ],
)
def test_wrong_parameters(made, said):
    with pytest.raises(CaffeError, match=said):
        to_proto(made())


def test_wrong_bottoms_and_names():
    with pytest.raises(CaffeError, match="a tuple as a bottom"):
        L.ReLU(L.Pooling(net_input(1), ntop=2))
    with pytest.raises(CaffeError, match="in_place"):
        L.Eltwise(net_input(1), net_input(1), in_place=True)
    n = NetSpec()
    n.conv1 = net_input(1)
    with pytest.raises(AttributeError, match="did you mean 'conv1'"):
        _ = n.conv2
    with pytest.raises(CaffeError, match="assigned a tuple"):
        n.pool = L.Pooling(net_input(1), ntop=2)
    with pytest.raises(AttributeError, match="MAX, AVE, STOCHASTIC"):
        _ = P.Pooling.MIN
