"""Chains worked off strip by strip give what they give at once, and what torch gives."""

import pytest
import torch
import torch.nn.functional as F

from caffe_compat.engine import onednn
from caffe_compat.engine.index_pooling import Pool, Unpool, pool
from caffe_compat.engine.onednn import Geometry
from caffe_compat.engine.operators import Convolution, Labels
from caffe_compat.engine.rows import run_chain
from caffe_compat.engine.winograd import WinogradConvolution

CHANNELS = 6


def filters(size):
    torch.manual_seed(size)
    return torch.randn(CHANNELS, CHANNELS, size, size) / (CHANNELS**0.5 * size), torch.randn(CHANNELS)


def convolution(size, dilation=1):
    pad = dilation * (size // 2)
    geometry = Geometry(pad=(pad, pad), dilation=(dilation, dilation))
    return Convolution(*filters(size), geometry, True, (16, 16)), lambda x: F.conv2d(
        x, *(part.double() for part in filters(size)), padding=pad, dilation=dilation
    ).relu()


def winograd():
    return WinogradConvolution(*filters(3), True), convolution(3)[1]


CHAINS = {
    "3": [convolution(3)],
    "7, 1": [convolution(7), convolution(1)],
    "dilated": [convolution(3, 4), convolution(3)],
    "winograd": [winograd()],
    "3, winograd, 3": [convolution(3), winograd(), convolution(3)],
}


@pytest.mark.parametrize("strips", [1, 2, 3, 5])
@pytest.mark.parametrize("size", [(13, 9), (8, 12), (5, 1)])
@pytest.mark.parametrize("chain", CHAINS)
def test_convolutions(chain, size, strips):
    operators, references = zip(*CHAINS[chain], strict=True)
    x = torch.randn(2, CHANNELS, *size).contiguous(memory_format=torch.channels_last)
    (found,) = run_chain(operators, (x,), strips)
    expected = x.double()
    for reference in references:
        expected = reference(expected)
    torch.testing.assert_close(found, expected.float(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("strips", [1, 2, 4])
@pytest.mark.parametrize("size", [(13, 9), (8, 12)])
@pytest.mark.parametrize("able", [True, False], ids=["oneDNN", "torch alone"])
def test_down_and_up(size, strips, able, monkeypatch):
    if not able:
        monkeypatch.setattr(onednn, "is_able", lambda *_: False)
    operator, reference = convolution(3)
    x = torch.randn(2, CHANNELS, *size).contiguous(memory_format=torch.channels_last)
    y, places = run_chain((operator, Pool(True)), (x,), strips)
    expected, positions = F.max_pool2d(reference(x.double()), 2, 2, ceil_mode=True, return_indices=True)
    torch.testing.assert_close(y, expected.float(), atol=1e-5, rtol=1e-5)
    (alone,) = run_chain((operator, Pool(False)), (x,), strips)
    assert torch.equal(alone, y)
    (up,) = run_chain((Unpool(*size), operator, Labels()), (y, places), strips)
    plane = torch.zeros(2, CHANNELS, size[0] * size[1], dtype=torch.float64)
    plane.scatter_(2, positions.flatten(2), expected.flatten(2))
    scores = reference(plane.view(2, CHANNELS, *size))
    assert up.dtype == torch.uint8 and torch.equal(up[:, 0].long(), scores.argmax(1))


def test_labels_of_equal_scores():
    scores = torch.zeros(1, 5, 2, 2).contiguous(memory_format=torch.channels_last)
    assert run_chain((Labels(),), (scores,), 1)[0].eq(0).all()
    assert run_chain((Labels(last=True),), (scores,), 2)[0].eq(4).all()
    many = torch.zeros(1, 300, 2, 2)
    assert run_chain((Labels(last=True),), (many,), 1)[0].eq(299).all()


def test_strips_of_a_plane_that_was_pooled_are_whole_windows():
    x = torch.randn(1, CHANNELS, 11, 6).contiguous(memory_format=torch.channels_last)
    for strips in (1, 2, 3, 6):
        for one, other in zip(run_chain((Pool(True),), (x,), strips), pool(x), strict=True):
            assert torch.equal(one, other)
