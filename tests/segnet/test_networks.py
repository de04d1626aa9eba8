"""The networks against the published files, layer by layer, and the shipped files against their definitions."""

import pytest

import caffe_compat as caffe
from caffe_compat.build_graph import build_graph
from prototxt.caffe_pb2 import LayerParameter
from prototxt.net_file import NetFile, find_net, read_net
from segnet import camvid
from segnet.generate_zoo import networks, render
from segnet.networks import Training, segnet, segnet_basic
from tests.shared import SHARED, needs_shared

MODELS = SHARED / "prototxt" / "segnet-tutorial" / "Models"
PUBLISHED = {
    "segnet_train": "segnet_train",
    "segnet_basic_train": "segnet_basic_train",
    "bayesian_segnet_train": "bayesian_segnet_train",
    "bayesian_segnet_basic_train": "bayesian_segnet_basic_train",
    "segnet": "segnet_inference",
    "segnet_basic": "segnet_basic_inference",
    "bayesian_segnet": "bayesian_segnet_inference",
    "bayesian_segnet_basic": "bayesian_segnet_basic_inference",
}


def drop_defaults(message):
    """Clear what says no more than its absence."""
    for field, value in message.ListFields():
        if field.message_type is not None:
            for child in value if field.is_repeated else [value]:
                drop_defaults(child)
        elif not field.is_repeated and field.has_default_value and value == field.default_value:
            message.ClearField(field.name)


def comparable(layer: LayerParameter, inference: bool) -> LayerParameter:
    """A layer without what says the same in other words, or says nothing."""
    same = LayerParameter()
    same.CopyFrom(layer)
    same.ClearField("upsample_param")  # scale 2 with pad_out says what upsample_h/w says: sizes are compared
    if inference and layer.type == "BN":  # fillers and rates do nothing for loaded weights
        del same.param[:]
        same.bn_param.ClearField("scale_filler")
        same.bn_param.ClearField("shift_filler")
    drop_defaults(same)
    return same


@needs_shared
@pytest.mark.parametrize(("shipped", "original"), PUBLISHED.items())
def test_layers_are_those_of_the_published_files(shipped, original):
    ours, theirs = read_net(find_net(shipped)), read_net(MODELS / f"{original}.prototxt")
    inference = not shipped.endswith("train")
    theirs_layers = [layer for layer in theirs.message.layer if not (inference and layer.type == "DenseImageData")]
    assert [layer.name for layer in ours.message.layer] == [layer.name for layer in theirs_layers]
    for a, b in zip(ours.message.layer, theirs_layers, strict=True):
        assert comparable(a, inference) == comparable(b, inference)
    phase = caffe.TEST if inference else caffe.TRAIN
    shapes = {"data": (2, 3, 360, 480), "label": (2, 1, 360, 480)}
    ours, theirs = (build_graph(file, phase, input_shapes=shapes) for file in (ours, theirs))
    assert all(theirs.blobs[name] == shape for name, shape in ours.blobs.items())
    assert ours.parameter_count == theirs.parameter_count


@pytest.mark.parametrize(("name", "count"), [("segnet_basic", 1_416_587), ("segnet", 29_449_355)])
def test_parameter_counts(name, count):
    assert build_graph(read_net(find_net(name)), caffe.TEST).parameter_count == count


@pytest.mark.parametrize("make", [segnet, segnet_basic])
@pytest.mark.parametrize("bayesian", [False, True])
@pytest.mark.parametrize(("height", "width", "classes"), [(360, 480, 11), (37, 101, 3), (1, 1, 2), (224, 224, 21)])
def test_any_size_and_class_count(make, bayesian, height, width, classes):
    net = make(height, width, classes, batch_size=2, bayesian=bayesian)
    graph = build_graph(NetFile.from_message(net), caffe.TEST)
    assert graph.blobs["prob"] == (2, classes, height, width)
    training = Training("list.txt", batch_size=3, class_weights=[1.0] * classes)
    shapes = {"data": (3, 3, height, width), "label": (3, 1, height, width)}
    net = make(height, width, classes, training=training, bayesian=bayesian)
    graph = build_graph(NetFile.from_message(net), caffe.TRAIN, input_shapes=shapes)
    assert graph.outputs == ["accuracy", "loss", "per_class_accuracy"]


def test_shipped_files_are_what_their_definitions_give():
    for name, content in networks().items():
        assert find_net(name).read_text("utf-8") == render(*content)


def test_camvid_has_a_weight_for_each_class():
    assert len(camvid.CLASS_WEIGHTS) == len(camvid.CLASSES) == camvid.VOID == 11
