"""The whole model: names, open and fixed numbers of images, what is left out, what cannot be said."""

import logging

import numpy as np
import pytest

import caffe_compat as caffe
from caffe_compat import registry
from caffe_compat.errors import LayerError, NetError
from tests.caffe_compat.nets import AUTOENCODER, inputs, net

pytest.importorskip("onnx", reason="needs onnx, the optional extra")
pytest.importorskip("onnxruntime", reason="needs onnxruntime, the optional extra")

from converters.onnx_graph import registry as rules
from converters.onnx_graph.comparing import compare, run_model
from converters.onnx_graph.model import to_onnx, without_samples
from converters.onnx_graph.rules import structural
from converters.translate import translate
from converters.translation_rules import PYTHON_LAYER
from prototxt.caffe_pb2 import LayerParameter
from prototxt.dialects import TYPES
from tests.converters.onnx_graph.running import assert_same, both, feeds_for, layer, randomised

IMAGES = {"x": (2, 4, 7, 9)}


def dims(value):
    return tuple(dim.dim_param or dim.dim_value or None for dim in value.type.tensor_type.shape.dim)


def shapes(values):
    return {value.name: dims(value) for value in values}


def test_every_type_has_a_rule_or_a_reason():
    """A type that is added to the runtime must be thought of here."""
    for name, dialects in TYPES.items():
        cls = next((cls for dialect in dialects if (cls := registry.find(name, dialect))), None)
        if cls is None or cls.is_source or name == "Python":
            continue
        fake = cls.__new__(cls)
        fake.__dict__["message"] = LayerParameter(type=name)
        try:
            rules.find_rule(fake)
        except LayerError as error:
            assert "no rule for it" not in str(error), name


def test_blobs_and_layers_keep_their_names():
    graph = to_onnx(net(AUTOENCODER)).model.graph
    assert shapes(graph.input) == {"data": ("N", 3, 10, 14)}
    assert shapes(graph.output) == {"prob": ("N", 2, 10, 14)}
    made = {output for node in graph.node for output in node.output}
    assert {"conv1/conv1", "conv1/bn1", "conv1", "pool1", "up1", "score"} <= made
    names = [node.name for node in graph.node]
    assert {"conv1", "relu1", "score", "prob", "pool1/MaxPool", "up1/ScatterElements"} <= set(names)
    assert len(set(names)) == len(names)
    assert {"conv1.weight", "conv1.bias", "bn1.scale", "score.bias"} <= {one.name for one in graph.initializer}


def test_model_says_where_it_comes_from():
    model = to_onnx(net(AUTOENCODER), metadata={"weights": "mine"}).model
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert (said["dialect"], said["classes"], said["weights"]) == ("segnet", "2", "mine")
    assert "blue green red" in said["preprocessing"]
    assert [(one.domain, one.version) for one in model.opset_import] == [("", 17)] and model.ir_version == 8


@pytest.mark.parametrize("items", [1, 3])
@pytest.mark.parametrize("size", [(45, 61), (10, 13)])
def test_autoencoder_at_odd_sizes(items, size):
    text = AUTOENCODER.replace("dim: 10 dim: 14", "dim: {} dim: {}".format(*size)).replace(
        "upsample_param { scale: 2 }", "upsample_param {{ upsample_h: {} upsample_w: {} }}".format(*size)
    )
    model = to_onnx(randomised(net(text))).model
    assert_same(*both(randomised(net(text)), feeds_for({"data": (items, 3, *size)})))
    assert shapes(model.graph.input) == {"data": ("N", 3, *size)}


def test_labels_are_the_last_of_equal_scores():
    built = net(inputs(x=(2, 3, 5, 6)) + layer("Softmax"))
    exported = to_onnx(built, labels=True)
    assert shapes(exported.model.graph.output) == {"y": ("N", 3, 5, 6), "labels": ("N", 5, 6)}
    x = np.zeros((4, 3, 5, 6), np.float32)
    x[0, 0] = 1
    labels = run_model(exported.model, {"x": x})["labels"]
    assert labels.dtype == np.uint8 and (labels[0] == 0).all() and (labels[1:] == 2).all()
    assert [one.agreement for one in compare(built, exported.model, {"x": x})] == [1, 1]


def test_labels_of_an_argmax():
    built = net(inputs(x=(2, 3, 5, 6)) + layer("ArgMax", "argmax_param { axis: 1 }"), dialect="bvlc")
    model = to_onnx(built, labels=True).model
    found = run_model(model, feeds_for({"x": (2, 3, 5, 6)}))
    assert found["labels"].shape == (2, 5, 6) and np.array_equal(found["labels"], found["y"][:, 0])


def test_labels_need_a_map():
    several = layer("ArgMax", "argmax_param { axis: 1 top_k: 2 }")
    with pytest.raises(NetError, match="2 labels for each pixel"):
        to_onnx(net(inputs(x=(2, 3, 5, 6)) + several, dialect="bvlc"), labels=True)
    with pytest.raises(NetError, match="no layer gives a map of labels"):
        to_onnx(net(inputs(x=(2, 3)) + layer("ReLU")), labels=True)


def test_batch_can_be_fixed():
    built = net(AUTOENCODER)
    graph = to_onnx(built, batch=5).model.graph
    assert shapes(graph.input) == {"data": (5, 3, 10, 14)} and shapes(graph.output) == {"prob": (5, 2, 10, 14)}
    assert built.blobs["data"].shape == (1, 3, 10, 14) and built.layers[0].window.kernel == (3, 3)
    with pytest.raises(NetError, match="a net without images"):
        to_onnx(net(inputs(x=(2, 3)) + layer("ReLU")), batch=5)


@pytest.mark.parametrize(
    "text",
    [
        layer("Reshape", "reshape_param { shape { dim: 2 dim: 252 } }"),
        layer("Slice", "slice_param { axis: 0 slice_point: 1 }", tops="y z"),
        layer("Scale", "scale_param { axis: 0 num_axes: 1 }"),
    ],
)
def test_net_that_fixes_the_batch_says_so(text):
    built = randomised(net(inputs(**IMAGES) + text, dialect="bvlc"))
    exported = to_onnx(built)
    assert shapes(exported.model.graph.input) == {"x": (2, 4, 7, 9)}
    (remark,) = exported.remarks
    assert "fixed at 2" in remark and "layer 'one'" in remark
    assert_same(*both(built, feeds_for(IMAGES)))


def test_net_without_images_keeps_its_shapes():
    exported = to_onnx(
        randomised(net(inputs(x=(3, 8)) + layer("InnerProduct", "inner_product_param { num_output: 2 }")))
    )
    assert shapes(exported.model.graph.input) == {"x": (3, 8)} and exported.remarks == []


LOSSES = (
    inputs(x=(2, 3, 5, 6), label=(2, 1, 5, 6))
    + layer("Convolution", "convolution_param { num_output: 3 kernel_size: 1 }", tops="score")
    + layer("SoftmaxWithLoss", bottoms="score label", tops="loss")
    + layer("Accuracy", bottoms="score label", tops="accuracy")
)


def test_losses_and_measures_are_left_out_and_labels_with_them():
    built = randomised(net(LOSSES))
    exported = to_onnx(built)
    assert shapes(exported.model.graph.input) == {"x": ("N", 3, 5, 6)}
    assert shapes(exported.model.graph.output) == {"score": ("N", 3, 5, 6)}
    assert exported.remarks == ["left out: one (SoftmaxWithLoss), one (Accuracy)"]
    assert compare(built, exported.model)[0].agreement == 1


def test_softmax_of_a_loss_takes_the_place_of_its_scores():
    built = randomised(net(LOSSES.replace('top: "loss"', 'top: "loss" top: "prob"')))
    assert shapes(to_onnx(built).model.graph.output) == {"prob": ("N", 3, 5, 6)}


def test_input_that_is_overwritten():
    built = net(inputs(**IMAGES) + layer("Power", "power_param { scale: 2 }", tops="x"))
    model = to_onnx(built).model
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["x", "x/one"]
    (one,) = compare(built, model)
    assert one.difference == 0 and one.scale > 255


def test_blob_that_is_called_as_a_constant():
    text = layer("Power", "power_param { scale: 2 }") + layer("Power", "power_param { scale: 3 }", tops="constant_1")
    built = net(inputs(**IMAGES) + text + layer("PReLU", tops="one.slope"))
    assert_same(*both(built, feeds_for(IMAGES)))


def test_output_that_is_the_input():
    model = to_onnx(net(inputs(**IMAGES) + layer("Dropout") + layer("ReLU", tops="z"))).model
    assert [value.name for value in model.graph.output] == ["y", "z"]
    x = feeds_for(IMAGES)
    assert np.array_equal(run_model(model, x)["y"], x["x"])


def test_what_a_loss_is_used_for_cannot_be_said():
    text = LOSSES + layer("Power", "power_param { scale: 2 }", "loss", "twice")
    with pytest.raises(NetError, match=r"reads 'loss'"):
        to_onnx(net(text))


def test_everything_that_cannot_be_said_is_said_at_once():
    text = (
        inputs(x=(2, 3, 5, 6), l=(2, 4, 1, 1), map=(2, 1, 5, 6))
        + layer("BiasChannel", bottoms="x l", tops="a").replace('"one"', '"first"')
        + layer("ReLU", bottoms="a", tops="b")
        + layer("UniqueLabel", "unique_label_param { max_labels: 3 }", "map", "c").replace('"one"', '"second"')
    )
    with pytest.raises(NetError) as caught:
        to_onnx(net(text, dialect="deeplab"))
    first, second = caught.value.problems
    assert "net.prototxt:3: layer 'first' (BiasChannel)" in first and "'second' (UniqueLabel)" in second


def test_own_layer_needs_a_rule_of_its_own(monkeypatch):
    class Twice(caffe.TorchLayer):
        def top_shapes(self, *bottoms):
            return [bottoms[0]]

        def forward(self, *bottoms):
            return bottoms[0] * 2

    monkeypatch.setattr(registry, "_classes", dict(registry._classes))
    monkeypatch.setattr(rules, "_rules", dict(rules._rules))
    caffe.layer("OnnxTwice")(Twice)
    built = net(inputs(**IMAGES) + layer("OnnxTwice"))
    with pytest.raises(NetError, match=r'no rule for it; .*rule\("OnnxTwice"\)'):
        to_onnx(built)
    rules.rule("OnnxTwice")(lambda writer, place: writer.scaled(place.bottoms[0], 2))
    assert_same(*both(built, feeds_for(IMAGES)))
    with pytest.raises(ValueError, match="already"):
        rules.rule("OnnxTwice")(structural.silence)


def test_weights_that_layers_share_are_there_once():
    shared = layer(
        "Convolution", 'param { name: "w" } convolution_param { num_output: 4 kernel_size: 1 bias_term: false }'
    )
    built = randomised(net(inputs(**IMAGES) + shared + shared.replace('"one"', '"two"').replace('"y"', '"z"')))
    graph = to_onnx(built).model.graph
    assert [one.name for one in graph.initializer] == ["one.weight"]
    assert_same(*both(built, feeds_for(IMAGES)))


def test_dropout_that_samples_in_test():
    ratio = layer("Dropout", "dropout_param { dropout_ratio: 0.25 sample_weights_test: true }", tops="d")
    built = net(
        inputs(x=(1, 1, 100, 100)) + layer("ReLU", tops="r") + ratio.replace('"x"', '"r"') + layer("ReLU", bottoms="d")
    )
    exported = to_onnx(built)
    assert exported.remarks == ["one draws at random, in every run anew"]
    x = np.ones((4, 1, 100, 100), np.float32)
    values = run_model(exported.model, {"x": x})["y"]
    assert set(np.unique(values)) == {0, np.float32(4 / 3)}
    assert (values == 0).mean((1, 2, 3)) == pytest.approx(0.25, abs=0.03)  # 7 deviations
    assert len(np.unique(values, axis=0)) == 4
    with without_samples(built) as names:
        same = to_onnx(built)
    assert names == ["one"] and same.remarks == []
    assert np.array_equal(run_model(same.model, {"x": x})["y"], x)
    assert to_onnx(built).remarks


CHANNELS_THAT_DROP = {
    "ENet": (
        layer(
            "Python",
            'python_param { module: "spatial_dropout" layer: "SpatialDropoutLayer" '
            "param_str: \"{'phase': 'TRAIN', 'p': '0.25'}\" }",
        ),
        caffe.TEST,
        "enet",
    ),
    "DeconvNet": (layer("DropoutChannel", "dropout_param { dropout_ratio: 0.25 }"), caffe.TRAIN, "deconvnet"),
}


@pytest.mark.parametrize(("text", "phase", "dialect"), CHANNELS_THAT_DROP.values(), ids=CHANNELS_THAT_DROP)
def test_dropout_of_channels(text, phase, dialect):
    built = net(inputs(x=(1, 2000, 2, 2)) + text + layer("ReLU", bottoms="y", tops="z"), phase, dialect=dialect)
    values = run_model(to_onnx(built).model, {"x": np.ones((3, 2000, 2, 2), np.float32)})["z"]
    assert set(np.unique(values)) == {0, np.float32(4 / 3)}
    assert (values == values[:, :, :1, :1]).all() and len(np.unique(values, axis=0)) == 3
    assert (values == 0).mean() == pytest.approx(0.25, abs=0.03)  # 5 deviations


def test_items_that_are_chosen():
    text = (
        inputs(x=(4, 2, 3, 3), chosen=(4,)) + layer("Filter", bottoms="x chosen") + layer("ReLU", bottoms="y", tops="z")
    )
    built = net(text)
    x = np.random.default_rng(0).normal(size=(4, 2, 3, 3)).astype(np.float32)
    (y,) = run_model(to_onnx(built).model, {"x": x, "chosen": np.float32([0, 1, 0, -2])}).values()
    assert np.array_equal(y, np.maximum(x[[1, 3]], 0))
    with pytest.raises(NetError, match="known only when it runs"):
        to_onnx(built, batch=4)


def test_items_by_number_and_rows_by_index():
    text = inputs(x=(4, 2, 3, 3), i=(3,)) + layer("BatchReindex", bottoms="x i")
    x, i = np.random.default_rng(0).normal(size=(4, 2, 3, 3)).astype(np.float32), np.float32([3, 0, 3])
    assert_same(*both(net(text, dialect="bvlc"), {"x": x, "i": i}))
    text = inputs(i=(2, 3)) + layer("Embed", "embed_param { input_dim: 5 num_output: 4 }", "i")
    assert_same(*both(randomised(net(text, dialect="bvlc")), {"i": np.float32([[0, 4, 1], [1, 1, 3]])}))


@pytest.mark.parametrize("kind", ["RNN", "LSTM"])
@pytest.mark.parametrize("extras", ["", "static", "exposed"])
def test_sequences_that_begin_anew(kind, extras):
    feeds = {"x": (4, 2, 3), "cont": (4, 2)} | ({"static": (2, 5)} if extras == "static" else {})
    states = ["h", "c"][: 1 + (kind == "LSTM")] if extras == "exposed" else []
    feeds |= dict.fromkeys(states, (1, 2, 6))
    exposed = "expose_hidden: true" if states else ""
    tops = " ".join(["y", *(f"{state}_last" for state in states)])
    text = layer(kind, f"recurrent_param {{ num_output: 6 {exposed} }}", " ".join(feeds), tops)
    built = randomised(net(inputs(**feeds) + text, dialect="bvlc"))
    values = feeds_for(feeds)
    values["cont"] = np.float32([[0, 1], [1, 1], [1, 0], [1, 1]])
    model = to_onnx(built)
    assert bool(model.remarks) == (not states)
    assert_same(*both(built, values))


def test_upsampling_translated_for_plain_caffe(monkeypatch):
    monkeypatch.syspath_prepend(PYTHON_LAYER.parent)
    tiny = randomised(net(AUTOENCODER))
    blobs = {name: [blob.data for blob in own] for name, own in tiny.params.items()}
    message, own = translate(tiny.graph.source, blobs, "bvlc")
    plain = caffe.Net(message, caffe.TEST, dialect="bvlc")
    for one, values in zip(message.layer, own, strict=True):
        for blob, value in zip(plain.params.get(one.name, []), values, strict=True):
            blob.data[...] = value
    model = to_onnx(plain).model
    x = feeds_for({"data": (2, 3, 10, 14)})
    assert "ScatterElements" in {node.op_type for node in model.graph.node}
    np.testing.assert_allclose(run_model(model, x)["prob"], run_model(to_onnx(tiny).model, x)["prob"], atol=1e-5)


def test_net_is_left_as_it_was(caplog):
    built = net(AUTOENCODER.replace("scale: 2", "upsample_h: 12 upsample_w: 14"))
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        to_onnx(built)
        to_onnx(built, batch=3)
    assert not caplog.records  # what the shapes are like was told when the net was built
    assert built.blobs["prob"].shape == (1, 2, 12, 14)


def test_nothing_but_losses_is_no_model():
    text = inputs(x=(2, 3), label=(2,)) + layer("SoftmaxWithLoss", bottoms="x label", tops="loss")
    with pytest.raises(NetError, match="no output but losses"):
        to_onnx(net(text))


def test_weights_that_no_file_holds(monkeypatch):
    monkeypatch.setattr("converters.onnx_graph.model._LARGEST", 100)
    with pytest.raises(NetError, match="expected less than 2 GiB"):
        to_onnx(net(AUTOENCODER))
