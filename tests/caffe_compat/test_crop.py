"""Crop: with written offsets, and with those that DeconvNet's fork finds from the graph."""

import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from tests.caffe_compat.nets import inputs, net


def cropped(param, shape, reference):
    text = f'force_backward: true layer {{ name: "l" type: "Crop" bottom: "x" bottom: "r" top: "y" {param} }}'
    return net(inputs(x=shape, r=reference) + text, dialect="bvlc")


@pytest.mark.parametrize(
    ("param", "reference", "window"),
    [
        ("", (9, 9, 2, 3), np.s_[:, :, :2, :3]),
        ("offset: 2", (9, 9, 2, 3), np.s_[:, :, 2:4, 2:5]),
        ("offset: 1 offset: 3", (9, 9, 3, 2), np.s_[:, :, 1:4, 3:5]),
        ("axis: -1 offset: 1", (9, 9, 9, 2), np.s_[:, :, :, 1:3]),
        ("axis: 1 offset: 1 offset: 0 offset: 2", (9, 2, 4, 1), np.s_[:, 1:3, :, 2:3]),
        ("axis: 0", (1, 2, 3, 4), np.s_[:1, :2, :3, :4]),
    ],
)
def test_window_and_its_gradient(param, reference, window):
    made = cropped(f"crop_param {{ {param} }}", (2, 3, 4, 5), reference)
    x = np.arange(120, dtype=np.float32).reshape(2, 3, 4, 5)
    assert np.array_equal(made.forward(x=x, r=np.ones(reference))["y"], x[window])
    made.blobs["y"].diff[...] = 2 * x[window]
    made.backward()
    want = np.zeros_like(x)
    want[window] = 2 * x[window]
    assert np.array_equal(made.blobs["x"].diff, want) and not made.blobs["r"].diff.any()


def test_a_copy_is_cut_out():
    made = cropped("", (1, 1, 2, 2), (1, 1, 2, 2))
    made.forward()["y"][...] = 9
    assert not made.blobs["x"].data.any()


@pytest.mark.parametrize(
    ("param", "reference", "said"),
    [
        ("offset: 3", (1, 1, 2, 2), "2 values from 3 on, on axis 2"),
        ("offset: 0 offset: 4", (1, 1, 2, 2), "2 values from 4 on, on axis 3"),
        ("offset: 0 offset: 0 offset: 0", (1, 1, 2, 2), "3 times `offset` for the 2 axes"),
        ("axis: 4", (1, 1, 2, 2), "axis 4 is out of range"),
        ("", (1, 2), "fewer axes"),
    ],
)
def test_windows_that_do_not_fit(param, reference, said):
    with pytest.raises(NetError, match=said):
        cropped(f"crop_param {{ {param} }}", (1, 1, 4, 5), reference)


def layers(*lines):
    """V1 layers from ``"TYPE bottom(s) top parameters"``."""
    text = []
    for line in lines:
        kind, bottoms, top, *param = line.split(" ", 3)
        words = [f'bottom: "{bottom}"' for bottom in bottoms.split(",")]
        text.append(f'layers {{ name: "{top}" type: {kind} {" ".join(words)} top: "{top}" {"".join(param)} }}')
    return "\n".join(text)


def image(size):
    return f'input: "data" input_dim: 1 input_dim: 1 input_dim: {size} input_dim: {size}\n'


def convolution(kernel, stride=1, pad=0):
    return f"convolution_param {{ num_output: 1 kernel_size: {kernel} stride: {stride} pad: {pad} }}"


POOL = "pooling_param { kernel_size: 2 stride: 2 }"
FCN = (
    f"CONVOLUTION data c1 {convolution(3, pad=100)}",
    "RELU c1 c1",
    f"POOLING c1 p1 {POOL}",
    f"POOLING p1 p2 {POOL}",
    f"POOLING p2 p3 {POOL}",
    f"POOLING p3 p4 {POOL}",
    f"POOLING p4 p5 {POOL}",
    f"CONVOLUTION p5 fc6 {convolution(7)}",
    "DROPOUT fc6 fc6",
)


def found(made):
    return {node.layer.name: node.layer.offsets for node in made.graph.nodes if node.layer.type == "Crop"}


def test_offset_of_fcn_32s():
    deconvolved = f"DECONVOLUTION fc6 big {convolution(64, 32)}"
    made = net(image(64) + layers(*FCN, deconvolved, "CROP big,data y"), dialect="deconvnet")
    assert found(made) == {"y": (19, 19)} and tuple(made.blobs["y"].shape) == (1, 1, 64, 64)


def test_offsets_of_fcn_8s():
    made = net(
        image(64)
        + layers(
            *FCN,
            f"DECONVOLUTION fc6 score2 {convolution(4, 2)}",
            f"CONVOLUTION p4 score_p4 {convolution(1)}",
            "CROP score_p4,score2 crop4",
            "ELTWISE score2,crop4 fused4",
            f"DECONVOLUTION fused4 score4 {convolution(4, 2)}",
            f"CONVOLUTION p3 score_p3 {convolution(1)}",
            "CROP score_p3,score4 crop3",
            "ELTWISE score4,crop3 fused3",
            f"DECONVOLUTION fused3 big {convolution(16, 8)}",
            "CROP big,data y",
        ),
        dialect="deconvnet",
    )
    assert found(made) == {"crop4": (5, 5), "crop3": (9, 9), "y": (31, 31)}


def test_cut_where_the_offset_says_also_for_another_size():
    lines = (f"CONVOLUTION data c {convolution(3, pad=3)}", "CROP c,data y")
    made = net(image(4) + layers(*lines), dialect="deconvnet")
    made.params["c"][0].data[0, 0, 1, 1] = 1
    for size in (4, 6):
        x = torch.rand(1, 1, size, size)
        assert torch.equal(made(x)["y"], x)


def test_unpooling_and_an_earlier_crop_on_the_way():
    made = net(
        image(8)
        + layers(
            f"CONVOLUTION data c {convolution(3, pad=3)}",
            f"POOLING c p {POOL}",
            "UNPOOLING p u unpooling_param { kernel_size: 2 stride: 2 unpool_size: 12 }",
            f"CONVOLUTION data d {convolution(3, pad=2)}",
            "CROP u,d first",
            "CROP first,data y",
        ),
        dialect="deconvnet",
    )
    assert found(made) == {"first": (1, 1), "y": (1, 1)}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([f"CONVOLUTION data c {convolution(3)}", "CROP c,data y"], "it begins 1 behind the first value"),
        ([f"CONVOLUTION data c {convolution(2, pad=2)}", "CROP c,data y"], "it begins 3/2 before the first"),
        ([f"POOLING data p {POOL}", "CROP p,data y"], "a step in it is 2 steps there"),
        (["FLATTEN data f", "CROP f,data y"], r"through net.prototxt:2: layer 'f' \(Flatten\)"),
    ],
)
def test_blobs_that_cannot_be_aligned(lines, said):
    with pytest.raises(NetError, match=said):
        net(image(8) + layers(*lines), dialect="deconvnet")


def test_blobs_of_no_common_origin():
    text = image(4) + image(4).replace("data", "other") + layers("RELU other other", "CROP data,other y")
    with pytest.raises(NetError, match="'data' and 'other' come from no common blob"):
        net(text, dialect="deconvnet")
