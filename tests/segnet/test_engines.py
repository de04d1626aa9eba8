"""The engines of all shipped networks: the labels are the net's, at even and odd sizes, for one image and for three."""

import pytest
import torch

import caffe_compat as caffe
from caffe_compat.deciding import deciding_blob
from segnet.networks import NETWORKS, segnet, segnet_basic
from tests.lively import images, lively

LEAST = 0.999
SIZES = [(360, 480), (224, 224), (375, 500)]
MAKERS = {
    **NETWORKS,
    "bayesian_segnet": lambda *size, **more: segnet(*size, bayesian=True, **more),
    "bayesian_segnet_basic": lambda *size, **more: segnet_basic(*size, bayesian=True, **more),
}


def agreement(built, engine, feeds):
    """The share of the pixels to which net and engine give the same label; by the net in float64 where that is low.

    A near-tie in one of the last pooling windows moves what a large part of the image is made of. In float64 such
    windows are decided as they are.
    """
    name, holds_labels = deciding_blob(built)
    tensors = {blob: torch.from_numpy(values) for blob, values in feeds.items()}
    with torch.no_grad():
        found = engine.labels(tensors["data"]).long()
        for kind in (torch.float32, torch.float64):
            values = built.to(kind)(**{blob: tensor.to(kind) for blob, tensor in tensors.items()})[name]
            expected = values[:, 0].long() if holds_labels else values.argmax(1)
            shares = torch.bincount(expected.flatten()) / expected.numel()
            assert (shares > 0.01).sum() >= 3, "the labels mean nothing"
            same = (found == expected).float().mean().item()
            if same >= LEAST:
                break
    built.float()
    return same


def without_samples(message):
    """The Bayesian networks' dropout draws, so that no two passes are the same."""
    for layer in message.layer:
        layer.dropout_param.ClearField("sample_weights_test")
    return message


def check(name, size):
    feeds = {"data": images(3, *size)}
    built = lively(caffe.Net(without_samples(MAKERS[name](*size)), caffe.TEST), feeds)
    for winograd in (True, False):
        engine = built.engine(winograd=winograd)
        for some in (feeds, {"data": feeds["data"][1:2]}):
            same = agreement(built, engine, some)
            print(f"{name}, {size}, {len(some['data'])} images, {winograd=}: {same:.4%}")
            assert same >= LEAST


@pytest.mark.parametrize(
    "name", ["segnet_basic", "fcn_basic", "bilinear_interpolation", "segnet_basic_encoder_addition"]
)
def test_small(name):
    check(name, (45, 61))


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", MAKERS)
def test_shipped(name, size):
    check(name, size)
