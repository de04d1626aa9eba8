"""The networks' parameters against arithmetic on the paper's description, and against the figures of its tables."""

from itertools import pairwise

import pytest

import caffe_compat as caffe
from caffe_compat.build_graph import build_graph
from prototxt.net_file import NetFile
from segnet.networks import NETWORKS


def parameters(name, classes):
    return build_graph(NetFile.from_message(NETWORKS[name](224, 224, classes)), caffe.TEST).parameter_count


def conv(inputs, outputs, kernel, normalised=True):
    """A convolution's weights and biases, and two values for each map that is normalised."""
    return inputs * outputs * kernel**2 + outputs + 2 * outputs * normalised


def vgg16():
    maps = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    return sum(conv(before, after, 3) for before, after in pairwise(maps))


def basic_encoder():
    return conv(3, 64, 7) + 3 * conv(64, 64, 7)


def mirror():
    """The first 12 convolutions of SegNet's decoder, and of DeconvNet's; the last has 64 maps."""
    maps = [512, 512, 512, 512, 512, 512, 256, 256, 256, 128, 128, 64, 64]
    return sum(conv(before, after, 3) for before, after in pairwise(maps))


def fcn8s(classes, deconvolutions):
    fully = conv(512, 4096, 7) + conv(4096, 4096, 1)
    scores = sum(conv(maps, classes, 1, normalised=False) for maps in (4096, 512, 256))
    return vgg16() + fully + scores + deconvolutions


def deconvnet(classes):
    up = conv(1024, 512, 7) + mirror() + conv(64, 64, 3)
    return vgg16() + conv(512, 1024, 7) + conv(1024, 1024, 1) + up + conv(64, classes, 1, normalised=False)


COUNTS = {
    "segnet": lambda k: vgg16() + mirror() + conv(64, k, 3, normalised=False),
    "segnet_basic": lambda k: basic_encoder() + 4 * conv(64, 64, 7) + conv(64, k, 1, normalised=False),
    "segnet_basic_encoder_addition": lambda k: COUNTS["segnet_basic"](k),
    "segnet_basic_single_channel_decoder": lambda k: (
        basic_encoder() + 4 * 64 * (49 + 1 + 2) + conv(64, k, 1, normalised=False)
    ),
    "fcn_basic": lambda k: basic_encoder() + 4 * conv(64, k, 1, normalised=False) + 4 * k * k * 64,
    "fcn_basic_no_addition": lambda k: basic_encoder() + conv(64, k, 1, normalised=False) + 4 * k * k * 64,
    "fcn_basic_no_dim_reduction": lambda k: basic_encoder() + 4 * 64**3 + conv(64, k, 1, normalised=False),
    "fcn_basic_no_addition_no_dim_reduction": lambda k: COUNTS["fcn_basic_no_dim_reduction"](k),
    "bilinear_interpolation": lambda k: basic_encoder() + conv(64, k, 1, normalised=False) + k * 32**2,
    "fcn": lambda k: fcn8s(k, k * (2 * 4**2 + 16**2)),
    "fcn_learnt_deconvolution": lambda k: fcn8s(k, k * k * (2 * 4**2 + 16**2)),
    "deeplab_largefov": lambda k: (
        vgg16() + conv(512, 1024, 3) + conv(1024, 1024, 1) + conv(1024, k, 1, normalised=False) + k * 16**2
    ),
    "deconvnet": deconvnet,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_are_those_of_the_description(name):
    for classes in (11, 37):
        assert parameters(name, classes) == COUNTS[name](classes)


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("bilinear_interpolation", 0.625),
        ("segnet_basic", 1.425),
        ("segnet_basic_encoder_addition", 1.425),
        ("segnet_basic_single_channel_decoder", 0.625),
        ("fcn_basic", 0.65),
        ("fcn_basic_no_addition", 0.65),
    ],
)
def test_table_1_is_the_file_size_in_tenths_of_a_megabyte(name, millions):
    assert round(4 * parameters(name, 11) / 1e6, 1) == pytest.approx(4 * millions)
