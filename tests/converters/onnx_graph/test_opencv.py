"""OpenCV's dnn reads the models too."""

import numpy as np
import pytest

import caffe_compat as caffe
from segnet.networks import NETWORKS
from tests.lively import images

pytest.importorskip("onnx", reason="needs onnx, the optional extra")
pytest.importorskip("onnxruntime", reason="needs onnxruntime, the optional extra")

from converters.onnx_graph.model import to_onnx
from tests.converters.onnx_graph.running import outputs


def zeros_without_value(model):
    """Nodes that leave the value of their zeros to the standard's default, which OpenCV does not know."""
    return [node.name for node in model.graph.node if node.op_type == "ConstantOfShape" and not node.attribute]


def test_the_zeros_that_values_are_put_on_are_written_out():
    model = to_onnx(caffe.Net(NETWORKS["segnet_basic"](45, 60), caffe.TEST)).model
    assert sum(node.op_type == "ConstantOfShape" for node in model.graph.node) == 4
    assert not zeros_without_value(model)


@pytest.mark.parametrize("name", ["segnet", "segnet_basic"])
def test_opencv_gives_the_nets_probabilities(name):
    cv2 = pytest.importorskip("cv2", reason="needs OpenCV (the extra `opencv`)")
    net = caffe.Net(NETWORKS[name](45, 60), caffe.TEST)
    feeds = {"data": images(1, 45, 60)}
    loaded = cv2.dnn.readNetFromONNX(np.frombuffer(to_onnx(net, batch=1).model.SerializeToString(), np.uint8))
    loaded.setInput(feeds["data"])
    expected = outputs(net, feeds, ["prob"])["prob"]
    assert expected.std() > 0.01
    np.testing.assert_allclose(loaded.forward("prob"), expected, rtol=1e-3, atol=1e-3)
