"""Measure how long each layer takes, forward and backward, as `caffe time` does.

One pass forward and backward goes before, unmeasured. Then every layer is timed in every iteration; on a GPU the
device is waited for before and after each. Data is read by the net's own data layers, and its time counts; where their
files are not there, and for the inputs of a net without a data layer, random numbers take their place. Backward runs
through every layer that has parameters or is asked for a gradient, whether or not it leads to a loss.
"""

from __future__ import annotations

import argparse
import logging
from time import perf_counter

import torch

from caffe_compat.data_layer import DataLayer
from caffe_compat.graph import Graph, Node
from caffe_compat.layer_types.memory_data import MemoryData
from caffe_compat.net import Net
from caffe_compat.tools.arguments import add_net, count, image_size, open_net
from caffe_compat.training.report import number
from prototxt.errors import MissingFileError

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The net, and for how long."""
    add_net(parser, "TRAIN")
    parser.add_argument("--iterations", type=count, default=50, metavar="N", help="passes to time (default: 50)")
    parser.add_argument("--input_size", type=image_size, metavar="HxW", help="time random images of this size")


def run(args: argparse.Namespace) -> int:
    """Time."""
    net = open_net(args, args.input_size)
    _feed(net, args.input_size is not None)
    _ask_for_gradients(net.graph)
    log.info("Performing Forward")
    log.info("Initial loss: %s", number(net._forward(0, len(net.layers) - 1)))
    log.info("Performing Backward")
    net._backward(len(net.layers) - 1, 0)
    log.info("*** Benchmark begins ***")
    log.info("Testing for %d iterations.", args.iterations)
    forward, backward = ([0.0] * len(net.layers) for _ in range(2))
    started = _now()
    for iteration in range(1, args.iterations + 1):
        before = _now()
        for i, node in enumerate(net.graph.nodes):
            forward[i] -= _now()
            net._run(i, node)
            forward[i] += _now()
        for i in reversed(range(len(net.layers))):
            backward[i] -= _now()
            net._backward(i, i)
            backward[i] += _now()
        log.info("Iteration: %d forward-backward time: %s ms.", iteration, number(_now() - before))
    total = _now() - started
    _report(net, forward, backward, total, args.iterations)
    return 0


def _now() -> float:
    """Milliseconds, when all that a GPU was given is done."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return 1000 * perf_counter()


def _report(net: Net, forward: list[float], backward: list[float], total: float, iterations: int) -> None:
    log.info("Average time per layer: ")
    for layer, there, back in zip(net.layers, forward, backward, strict=True):
        log.info("%10s\tforward: %s ms.", layer.name, number(there / iterations))
        if layer.has_backward:
            log.info("%10s\tbackward: %s ms.", layer.name, number(back / iterations))
        else:
            log.info("%10s\tbackward: none, %s has no backward pass.", layer.name, layer.type)
    log.info("Average Forward pass: %s ms.", number(sum(forward) / iterations))
    log.info("Average Backward pass: %s ms.", number(sum(backward) / iterations))
    log.info("Average Forward-Backward: %s ms.", number(total / iterations))
    log.info("Total Time: %s ms.", number(total))
    log.info("*** Benchmark ends ***")


def _ask_for_gradients(graph: Graph) -> None:
    """Let backward run where Caffe's benchmark runs it, which does not ask what leads to a loss."""
    for node in graph.nodes:
        wanted = any(node.propagate_down) or any(param.needs_diff for param in node.params)
        node.needs_backward = wanted and node.layer.has_backward


def _feed(net: Net, at_size: bool) -> None:
    """Fill the inputs, and the tops of data layers that cannot read (or shall not), with random numbers."""
    random = list(net.inputs)
    for i, node in enumerate(net.graph.nodes):
        if isinstance(node.layer, DataLayer | MemoryData) and (at_size or not _can_read(net, i, node)):
            node.layer.kept = dict.fromkeys(range(len(node.tops)), 0.0)
            random += node.tops
    classes = _classes(net.graph)
    for name in random:
        shape = tuple(net.blobs[name].shape)
        # the others are below 1, so that whoever takes such values as labels or indices finds number 0
        values = torch.randint(classes[name], shape) if name in classes else torch.rand(shape)
        net.blobs[name].data_tensor().copy_(values)
    if random:
        log.info("Random numbers take the place of data in %s", ", ".join(random))


def _can_read(net: Net, index: int, node: Node) -> bool:
    if isinstance(node.layer, MemoryData):
        return False  # only a program could give it arrays
    try:
        net._run(index, node)
    except MissingFileError:
        return False
    return True


def _classes(graph: Graph) -> dict[str, int]:
    """For each blob that is some layer's second bottom, as labels are: the channels of the first, which they number."""
    origins: dict[str, str] = {}
    found: dict[str, int] = {}
    for node in graph.nodes:
        if node.layer.type == "Split":
            origins.update(dict.fromkeys(node.tops, origins.get(node.bottoms[0], node.bottoms[0])))
        elif len(node.bottoms) > 1 and len(node.bottom_shapes[0]) > 1:
            name, channels = origins.get(node.bottoms[1], node.bottoms[1]), node.bottom_shapes[0][1]
            found[name] = min(channels, found.get(name, channels))
    return found
