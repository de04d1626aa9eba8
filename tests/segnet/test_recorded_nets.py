"""The shipped networks against what Caffe computed with the originals, at published size."""

import pytest

import caffe_compat as caffe
from prototxt.net_file import find_net, read_net
from tests.recorded import GOLDEN, net_case

INFERENCE = {
    "segnet": "segnet_inference",
    "segnet_basic": "segnet_basic_inference",
    "bayesian_segnet": "bayesian_segnet_inference",
    "bayesian_segnet_basic": "bayesian_segnet_basic_inference",
}


def built(name, phase):
    """A shipped net, its dropout still as in the recordings."""
    file = read_net(find_net(name))
    for layer in file.message.layer:
        if layer.HasField("dropout_param"):
            layer.dropout_param.ClearField("sample_weights_test")
    return caffe.Net(file, phase)


@pytest.mark.parametrize(("shipped", "record"), INFERENCE.items())
def test_inference_net_computes_what_caffe_computed(shipped, record):
    assert net_case(built(shipped, caffe.TEST), GOLDEN / "nets" / f"{record}.npz") == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["segnet_train", "segnet_basic_train"])
def test_train_net_computes_what_caffe_computed(name):
    assert net_case(built(name, caffe.TRAIN), GOLDEN / "nets" / f"{name}.npz") == []
