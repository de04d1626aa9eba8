"""Weights in V0 and V1: DeconvNet's, and those of before 2014."""

import numpy as np
import pytest

from prototxt import caffe_pb2
from prototxt.blobs import BlobArray
from prototxt.caffemodel import new_caffemodel, parse_caffemodel
from prototxt.downgrade import to_v1
from prototxt.errors import FormatError
from prototxt.upgrade import to_current
from tests.prototxt.handmade import blob, layer, message, net, v1_layer

CONVOLUTION, RELU, UNPOOLING, BN, IMAGE_SEG_DATA = 4, 18, 42, 43, 46
WEIGHTS, BIAS = blob(*range(8), legacy=(2, 1, 2, 2)), blob(1, 2, legacy=(1, 1, 1, 2))
CONV = v1_layer("conv1", CONVOLUTION, (2, "data"), (3, "conv1"), (6, WEIGHTS), (6, BIAS), (7, 1.0), (7, 2.0),
                (10, message((1, 2), (4, 2))))  # fmt: skip


def deconvnet():
    return net(
        CONV,
        v1_layer("bn1", BN, (6, blob(1, 2, legacy=(1, 2, 1, 1))), (45, message((3, 1)))),
        v1_layer("unpool1", UNPOOLING, (44, message((1, 0), (2, 2), (12, 14)))),
    )


def v0():
    conv = message((1, "conv1"), (2, "conv"), (3, 2), (8, 2), (50, WEIGHTS), (50, BIAS), (51, 1.0), (51, 2.0))
    pad = message((1, "pad1"), (2, "padding"), (7, 1))
    fields = (message((1, pad), (2, "data"), (3, "pad1")), message((1, conv), (2, "pad1"), (3, "conv1")))
    return net(*(message((2, field)) for field in fields))


def test_v1():
    data = net(CONV, v1_layer("relu1", RELU, (2, "conv1"), (3, "conv1")))
    model = parse_caffemodel(data)
    assert (model.generation, model.dialect) == ("V1", "segnet")
    assert model.to_bytes() == data
    conv, relu = model.layers
    assert [(one.name, one.type, len(one.blobs)) for one in (conv, relu)] == [
        ("conv1", "Convolution", 2), ("relu1", "ReLU", 0)]  # fmt: skip
    assert conv.message.convolution_param.num_output == 2
    assert [param.lr_mult for param in conv.message.param] == [1, 2]
    assert (conv.blobs[0].shape, conv.blobs[0].legacy) == ((2, 1, 2, 2), True)
    assert conv.blobs[1].shape_matches((2,))
    np.testing.assert_array_equal(conv.blobs[0].data.ravel(), range(8))
    assert model.net().layer[0].top == ["conv1"]


def test_v0():
    data = v0()
    model = parse_caffemodel(data)
    assert model.generation == "V0"
    assert model.to_bytes() == data
    (conv,) = model.layers  # the padding layer is upgraded away
    assert (conv.name, conv.type, list(conv.message.convolution_param.pad)) == ("conv1", "Convolution", [1])
    np.testing.assert_array_equal(conv.blobs[1].data.ravel(), [1, 2])


def test_deconvnet():
    data = deconvnet()
    model = parse_caffemodel(data)
    assert (model.generation, model.dialect) == ("V1", "deconvnet")
    assert model.to_bytes() == model.to_bytes("deconvnet") == data
    assert [one.type for one in model.layers] == ["Convolution", "BN", "Unpooling"]
    assert model.layers[1].message.bn_param.bn_mode == caffe_pb2.BNParameter.INFERENCE
    assert model.layers[2].message.unpooling_param.unpool_size == 14


def test_unknown_types_of_v1_keep_their_blobs():
    data = net(CONV, v1_layer("other", 77, (6, blob(3, legacy=(1, 1, 1, 1)))))
    model = parse_caffemodel(data)
    assert model.layers[1].name == "other"
    assert float(model.layers[1].blobs[0].data.item()) == 3
    assert model.to_bytes() == data


def test_new_values_in_v1_and_v0():
    for data in (deconvnet(), v0()):
        model = parse_caffemodel(data)
        model.layers[0].blobs[1].data = np.array([8, 9], np.float32).reshape(1, 1, 1, 2)
        assert model.to_bytes() == data.replace(BIAS, blob(8, 9, legacy=(1, 1, 1, 2)))


def test_v1_in_another_dialect_stays_v1_and_names_what_is_lost():
    data = net(CONV)
    assert parse_caffemodel(data).to_bytes("bvlc") == data
    with pytest.raises(FormatError) as caught:
        parse_caffemodel(deconvnet()).to_bytes("segnet")
    assert [text.split(": segnet")[0] for text in caught.value.problems] == [
        "layer 1 'bn1': bn_param", "layer 2 'unpool1': unpooling_param"]  # fmt: skip


def test_a_changed_layer_makes_the_net_current():
    model = parse_caffemodel(net(CONV))
    model.layers[0].message.name = "other"
    again = parse_caffemodel(model.to_bytes())
    assert (again.generation, again.layers[0].name) == ("V2", "other")
    assert again.net() == model.net()


def test_a_changed_layer_of_deconvnet_stays_v1():
    model = parse_caffemodel(deconvnet())
    model.layers[1].message.bn_param.bn_mode = caffe_pb2.BNParameter.LEARN
    again = parse_caffemodel(model.to_bytes())
    assert (again.generation, again.dialect) == ("V1", "deconvnet")
    assert again.net() == model.net()
    assert [[b.data.tolist() for b in one.blobs] for one in again.layers] == [
        [b.data.tolist() for b in one.blobs] for one in model.layers]  # fmt: skip


def test_a_net_made_for_deconvnet_is_written_in_v1():
    made = caffe_pb2.NetParameter(name="n", input=["data"])
    conv = made.layer.add(name="conv1", type="Convolution", bottom=["data"], top=["conv1"], phase=caffe_pb2.TEST)
    conv.convolution_param.num_output = 2
    conv.convolution_param.kernel_size.append(2)
    conv.param.add(lr_mult=1, name="w")
    conv.param.add(lr_mult=2, decay_mult=0, share_mode=caffe_pb2.ParamSpec.PERMISSIVE)
    made.layer.add(name="loss", type="SoftmaxWithLoss", loss_weight=[1])
    values = [BlobArray(np.zeros((2, 1, 2, 2), np.float32)), BlobArray(np.ones(2, np.float32))]
    data = new_caffemodel(made, {0: values}, "deconvnet").to_bytes()
    read = caffe_pb2.NetParameter.FromString(data)
    assert data == read.SerializeToString()
    assert not read.layer
    old = read.layers[0]
    assert old.type == caffe_pb2.V1LayerParameter.CONVOLUTION
    assert (list(old.blobs_lr), list(old.weight_decay), list(old.param)) == ([1, 2], [1, 0], ["w", ""])
    assert list(old.blob_share_mode) == [0, 1]
    assert [(b.num, b.channels, b.height, b.width) for b in old.blobs] == [(2, 1, 2, 2), (1, 1, 1, 2)]
    assert not old.blobs[0].HasField("shape")
    assert (old.convolution_param.kernel_size, list(old.bottom)) == ([2], ["data"])
    assert read.layers[1].type == caffe_pb2.V1LayerParameter.SOFTMAX_LOSS


@pytest.mark.parametrize("name", caffe_pb2.V1LayerParameter.LayerType.keys())
def test_every_type_of_v1_there_and_back(name):
    number = caffe_pb2.V1LayerParameter.LayerType.Value(name)
    old = caffe_pb2.V1LayerParameter(name="a", type=number, blobs_lr=[1, 2], weight_decay=[1, 0], loss_weight=[2])
    lost = []
    again = to_v1(to_current(caffe_pb2.NetParameter(layers=[old])).layer[0], lost)
    if name == "NONE":  # V2 has no word for it
        old.ClearField("type")
    assert (again, lost) == (old, [])


def test_what_v1_cannot_say_is_named():
    made = caffe_pb2.NetParameter()
    made.layer.add(name="up", type="Upsample", propagate_down=[True]).upsample_param.scale = 2
    made.layer.add(name="fc", type="Convolution").convolution_param.dilation.append(2)
    with pytest.raises(FormatError) as caught:
        new_caffemodel(made, {1: [np.zeros((1,) * 5)]}, "deconvnet").to_bytes()
    assert [text.split(": deconvnet")[0] for text in caught.value.problems] == [
        "layer 'fc', blob 0: shape (1, 1, 1, 1, 1) has 5 axes, a blob in deconvnet has four; write another dialect",
        "layer 0 'up': type Upsample",
        "layer 0 'up': propagate_down",
        "layer 0 'up': upsample_param",
        "layer 1 'fc': convolution_param.dilation",
    ]


def test_layers_of_both_generations(caplog):
    """Caffe takes the older ones."""
    data = net(layer("new", "Convolution", (7, blob(1, 2))), CONV)
    model = parse_caffemodel(data)
    assert [one.name for one in model.layers] == ["conv1"]
    assert model.to_bytes() == data
    assert "1 layers of the current generation are ignored" in caplog.text


@pytest.mark.parametrize("make", [deconvnet, v0])
def test_cut_off_at_every_byte(make):
    data = make()
    for length in range(len(data)):
        try:
            model = parse_caffemodel(data[:length])
        except FormatError:
            continue
        assert model.to_bytes() == data[:length]


def test_flipped_bytes():
    random = np.random.default_rng(0)
    for _ in range(1000):
        data = np.frombuffer(deconvnet(), np.uint8).copy()
        data[random.integers(0, len(data), 3)] = random.integers(0, 256, 3)
        try:
            model = parse_caffemodel(data.tobytes())
        except FormatError:
            continue
        assert model.to_bytes() == data.tobytes()
