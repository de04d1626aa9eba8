"""The graph of a net: splits, shapes, shared parameters, gradients, and every error that it can find."""

import pytest

import caffe_compat as caffe
from caffe_compat.errors import NetError
from caffe_compat.layer_types.pooling import pooled_size
from tests.caffe_compat.nets import AUTOENCODER, inputs, net

CONV = "convolution_param { num_output: 2 kernel_size: 1 }"


def problems(text, **options):
    with pytest.raises(NetError) as caught:
        net(text, **options)
    return caught.value.problems


def test_splits_carry_caffes_names():
    text = (
        inputs(data=(1, 1, 2, 2))
        + """
layer { name: "a" type: "ReLU" bottom: "data" top: "a" }
layer { name: "b" type: "ReLU" bottom: "data" top: "b" }
layer { name: "in" type: "ReLU" bottom: "a" top: "a" }
layer { name: "c" type: "ReLU" bottom: "a" top: "c" }
layer { name: "d" type: "ReLU" bottom: "a" top: "d" }"""
    )
    built = net(text)
    assert built._layer_names == ["data_input_0_split", "a", "b", "in", "a_in_0_split", "c", "d"]
    assert built.bottom_names["d"] == ["a_in_0_split_1"]
    assert list(built.blobs)[:3] == ["data", "data_input_0_split_0", "data_input_0_split_1"]
    assert built.outputs == ["b", "c", "d"]


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pad", "pooled"),
    [(45, 2, 2, 0, 23), (6, 2, 4, 0, 2), (5, 3, 2, 1, 3), (4, 3, 2, 1, 3), (3, 2, 2, 1, 2), (7, 3, 3, 0, 3)],
)
def test_pooling_rounds_up_as_caffe(size, kernel, stride, pad, pooled):
    assert pooled_size(size, kernel, stride, pad, clip=pad > 0) == pooled


def test_parameter_count_counts_shared_ones_for_each_layer():
    text = (
        inputs(data=(1, 3, 4, 4))
        + """
layer { name: "a" type: "Convolution" bottom: "data" top: "a" param { name: "w" } param { name: "b" } CONV }
layer { name: "c" type: "Convolution" bottom: "data" top: "c" param { name: "w" } param { name: "b" } CONV }
""".replace("CONV", CONV)
    )
    built = net(text)
    assert built.graph.parameter_count == 2 * (2 * 3 + 2)
    assert sum(p.numel() for p in built.parameters()) == 2 * 3 + 2


def test_all_problems_come_at_once_with_their_lines():
    text = (
        inputs(data=(1, 3, 8, 8))
        + """
layer { name: "a" type: "Convolutoin" bottom: "data" top: "a" }
layer { name: "b" type: "ReLU" bottom: "dat" top: "b" }
layer { name: "c" type: "Pooling" bottom: "data" top: "c" pooling_param { stride: 2 } }
layer { name: "d" type: "ReLU" bottom: "data" top: "data2" top: "data2" }"""
    )
    found = "\n".join(problems(text))
    assert "net.prototxt:2: layer 'a' (Convolutoin): unknown layer type" in found
    assert "Convolution" in found.split("unknown layer type 'Convolutoin'")[1].split("\n")[0]
    assert "net.prototxt:3: layer 'b' (ReLU): unknown bottom 'dat'" in found and "'data'" in found
    assert "net.prototxt:4: layer 'c' (Pooling): no window size" in found
    assert "net.prototxt:5: layer 'd' (ReLU): duplicate top 'data2'" in found


def test_a_problem_is_told_once_not_for_everything_after_it():
    text = (
        inputs(data=(1, 3, 8, 8))
        + """
layer { name: "a" type: "Nonsense" bottom: "data" top: "a" }
layer { name: "b" type: "ReLU" bottom: "a" top: "b" }
layer { name: "c" type: "ReLU" bottom: "b" top: "c" }"""
    )
    assert len(problems(text)) == 1


def test_duplicate_top_names_the_first_maker():
    text = (
        inputs(data=(1, 3, 8, 8))
        + """
layer { name: "a" type: "ReLU" bottom: "data" top: "x" }
layer { name: "b" type: "ReLU" bottom: "data" top: "x" }"""
    )
    (problem,) = problems(text)
    assert "layer 'b'" in problem and "duplicate top 'x'" in problem and "net.prototxt:2: layer 'a'" in problem


def test_shared_weights_of_another_channel_count():
    text = (
        inputs(data=(1, 3, 4, 4), wide=(1, 5, 4, 4))
        + """
layer { name: "a" type: "Convolution" bottom: "data" top: "a" param { name: "w" } CONV }
layer { name: "b" type: "Convolution" bottom: "wide" top: "b" param { name: "w" } CONV }""".replace("CONV", CONV)
    )
    (problem,) = problems(text)
    assert "layer 'b'" in problem and "(2, 5, 1, 1)" in problem and "(2, 3, 1, 1)" in problem


def test_permissive_sharing_uses_the_same_values_in_another_shape():
    text = (
        inputs(data=(1, 3, 4, 4))
        + """
layer { name: "a" type: "Convolution" bottom: "data" top: "a" param { name: "w" }
  convolution_param { num_output: 2 kernel_h: 1 kernel_w: 3 bias_term: false weight_filler { type: "msra" } } }
layer { name: "b" type: "Convolution" bottom: "data" top: "b" param { name: "w" share_mode: PERMISSIVE }
  convolution_param { num_output: 2 kernel_h: 3 kernel_w: 1 bias_term: false } }"""
    )
    built = net(text)
    built.params["a"][0].data[...] = 3
    assert (built.params["b"][0].data == 3).all()
    assert built.params["b"][0].data.shape == (2, 3, 3, 1)
    built.blobs["data"].data[...] = 1
    assert built.forward()["b"].max() == 27
    assert sum(p.numel() for p in built.parameters()) == 18


def test_channels_that_groups_do_not_divide():
    text = (
        inputs(data=(1, 3, 4, 4))
        + """
layer { name: "a" type: "Convolution" bottom: "data" top: "a"
  convolution_param { num_output: 4 kernel_size: 1 group: 2 } }"""
    )
    (problem,) = problems(text)
    assert "net.prototxt:2: layer 'a' (Convolution)" in problem and "3 channels" in problem and "group" in problem


def test_upsample_says_the_size_that_fits():
    text = AUTOENCODER.replace("scale: 2", "upsample_h: 9 upsample_w: 14")
    (problem,) = problems(text)
    assert "10x14" in problem and "9x14" in problem and "`upsample_h: 10 upsample_w: 14`" in problem


def test_upsample_larger_than_the_pooled_plane_warns(caplog):
    net(AUTOENCODER.replace("scale: 2", "upsample_h: 12 upsample_w: 14"))
    assert "`upsample_h: 10 upsample_w: 14` would fit" in caplog.text


def test_upsample_of_data_and_mask_of_different_shapes():
    text = (
        inputs(x=(1, 2, 4, 4), mask=(1, 2, 4, 5))
        + """
layer { name: "up" type: "Upsample" bottom: "x" bottom: "mask" top: "y" upsample_param { scale: 2 } }"""
    )
    (problem,) = problems(text)
    assert "(1, 2, 4, 4)" in problem and "(1, 2, 4, 5)" in problem and "upsample_h: 4 upsample_w: 5" in problem


def needs(built):
    return {node.layer.name: node.needs_backward for node in built.graph.nodes}


LOSS = """
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "b" bottom: "label" top: "loss" }"""
CHAIN = (
    inputs(data=(1, 3, 4, 4), label=(1, 1, 4, 4))
    + """
layer { name: "a" type: "Convolution" bottom: "data" top: "a" CONV }
layer { name: "b" type: "Convolution" bottom: "a" top: "b" CONV }
layer { name: "side" type: "ReLU" bottom: "a" top: "side" }""".replace("CONV", CONV)
)


def test_only_what_leads_to_a_loss_runs_backward():
    assert needs(net(CHAIN + LOSS)) == {"a": True, "a_a_0_split": True, "b": True, "side": False, "loss": True}


def test_force_backward_reaches_the_data_but_not_the_label():
    built = net("force_backward: true " + CHAIN + LOSS)
    down = {node.layer.name: node.propagate_down for node in built.graph.nodes}
    assert down["a"] == [True] and down["loss"] == [True, False]


@pytest.mark.parametrize(("dialect", "wanted"), [("segnet", False), ("bvlc", True)])
def test_negative_learning_rate_asks_for_a_gradient_only_in_bvlc(dialect, wanted):
    text = CHAIN.replace('name: "a" type', 'name: "a" param { lr_mult: -1 } param { lr_mult: 0 } type') + LOSS
    built = net(text, dialect=dialect)
    assert next(node.params[0].needs_diff for node in built.graph.nodes if node.layer.name == "a") is wanted


def test_loss_weight_for_each_top():
    text = CHAIN + LOSS.replace('top: "loss"', 'top: "loss" loss_weight: 1 loss_weight: 2')
    assert any("2 times `loss_weight`" in problem for problem in problems(text))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('input: "a" input_shape { dim: 1 dim: -3 }', "input 'a' has the shape (1, -3); expected no axis below 0"),
        (
            'layer { name: "a" type: "Input" top: "a" input_param { shape { dim: -2 dim: 3 } } }',
            "top 'a' would have the shape (-2, 3); expected no axis below 0",
        ),
    ],
)
def test_axes_below_zero(text, told):
    (problem,) = problems(text + ' layer { name: "r" type: "ReLU" bottom: "a" top: "r" }')
    assert told in problem


def test_inputs_without_shapes_say_what_is_missing():
    (problem,) = problems('input: "data" layer { name: "r" type: "ReLU" bottom: "data" top: "r" }')
    assert "input 'data' has no shape" in problem
    built = net('input: "data" layer { name: "r" type: "ReLU" bottom: "data" top: "r" }', input_shapes={"data": (1, 2)})
    assert built.blobs["r"].shape == (1, 2)


def test_phases_choose_layers():
    text = (
        inputs(data=(1, 3, 4, 4))
        + """
layer { name: "t" type: "ReLU" bottom: "data" top: "t" include { phase: TRAIN } }
layer { name: "e" type: "ReLU" bottom: "data" top: "e" exclude { phase: TRAIN } }
layer { name: "s" type: "ReLU" bottom: "data" top: "s" include { stage: "deploy" } }"""
    )
    assert net(text, caffe.TRAIN)._layer_names == ["t"]
    assert net(text, caffe.TEST)._layer_names == ["e"]
    assert net(text, caffe.TEST, stages=["deploy"])._layer_names[1:] == ["e", "s"]
