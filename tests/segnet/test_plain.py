"""The plain contenders compute what the nets do."""

import pytest
import torch

from caffe_compat import TEST, Net
from segnet.networks import segnet, segnet_basic
from segnet.plain import PlainSegNet, PlainSegNetBasic


@pytest.mark.parametrize(("make", "plain"), [(segnet, PlainSegNet), (segnet_basic, PlainSegNetBasic)])
def test_a_plain_module_with_the_nets_weights_gives_its_probabilities(make, plain):
    torch.manual_seed(0)
    net, module = Net(make(37, 50, 5, batch_size=2), TEST), plain(classes=5).eval()
    for node in net.graph.nodes:
        if node.layer.type == "BN":
            for blob in node.layer.blobs:
                blob.data_tensor().uniform_(0.5, 1.5)
    module.take_weights(net)
    images = torch.rand(2, 3, 37, 50, dtype=torch.float64) * 255  # in float32 near-ties of pooling windows may differ
    with torch.no_grad():
        expected, found = net.double()(images)["prob"], module.double()(images).softmax(1)
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)  # weights were merged in float32
