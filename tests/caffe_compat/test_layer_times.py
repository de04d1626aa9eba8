"""Times of layers: which mark belongs to which, and what a net is fed with."""

from itertools import pairwise

import numpy as np
import pytest
import torch

import caffe_compat as caffe
from caffe_compat.layer_times import CudaClock, WallClock, ask_for_gradients, clock_of, feed_random, time_pass
from tests.caffe_compat.nets import AUTOENCODER, net

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU, which is not here")


class Steps:
    """A clock on which a millisecond more passes between any two marks than between the two before."""

    def __init__(self):
        self.marks = 0

    def mark(self):
        self.marks += 1
        return self.marks

    def between(self, marks):
        at = [mark * (mark - 1) / 2 for mark in marks]
        return [later - earlier for earlier, later in pairwise(at)]


def test_each_layer_has_its_own_times_forward_and_backward():
    network = net(AUTOENCODER)
    feed_random(network)
    ask_for_gradients(network.graph)
    clock, count = Steps(), len(network.layers)
    times = time_pass(network, clock)
    assert times.forward == list(range(1, count + 1))
    assert times.backward == list(range(2 * count, count, -1))  # the last layer goes first
    assert times.total == sum(times.forward) + sum(times.backward)
    assert clock.marks == 2 * count + 1


def test_a_pass_computes_what_forward_and_backward_do():
    network, other = net(AUTOENCODER), net(AUTOENCODER)
    for name, blobs in network.params.items():
        for mine, theirs in zip(blobs, other.params[name], strict=True):
            theirs.data[...] = mine.data
    feed_random(network)
    other.blobs["data"].data[...] = network.blobs["data"].data
    for each in (network, other):
        ask_for_gradients(each.graph)
    time_pass(network, WallClock())
    other.forward()
    other.backward()
    top = network.outputs[0]
    np.testing.assert_array_equal(network.blobs[top].data, other.blobs[top].data)
    for name, blobs in network.params.items():
        for mine, theirs in zip(blobs, other.params[name], strict=True):
            np.testing.assert_array_equal(mine.diff, theirs.diff)


def test_the_wall_clock_counts_milliseconds():
    assert WallClock().between([1.0, 1.5, 3.5]) == [500, 2000]
    assert isinstance(clock_of(net(AUTOENCODER)), WallClock)


@needs_gpu
def test_a_gpu_is_timed_by_events():
    caffe.set_mode_gpu()
    try:
        network = net(AUTOENCODER)
        clock = clock_of(network)
        assert isinstance(clock, CudaClock)
        times = time_pass(network, clock)
        assert min(times.forward) >= 0 and times.total > 0
    finally:
        caffe.set_mode_cpu()
