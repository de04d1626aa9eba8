"""Measure how long each layer takes, forward and backward, as `caffe time` does.

One pass forward and backward goes before, unmeasured. Then every layer is timed in every iteration; on a GPU by events,
so that nothing waits within an iteration. Data is read by the net's own data layers, and its time counts; where their
files are not there, and for the inputs of a net without a data layer, random numbers take their place. Backward runs
through every layer that has parameters or is asked for a gradient, whether or not it leads to a loss.
"""

from __future__ import annotations

import argparse
import logging

from caffe_compat.heap import keep_freed
from caffe_compat.layer_times import PassTimes, ask_for_gradients, clock_of, feed_random, time_pass
from caffe_compat.net import Net
from caffe_compat.tools.arguments import add_net, count, image_size, open_net
from caffe_compat.training.report import number

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The net, and for how long."""
    add_net(parser, "TRAIN")
    parser.add_argument("--iterations", type=count, default=50, metavar="N", help="passes to time (default: 50)")
    parser.add_argument("--input_size", type=image_size, metavar="HxW", help="time random images of this size")


def run(args: argparse.Namespace) -> int:
    """Time."""
    keep_freed()
    net = open_net(args, args.input_size)
    random = feed_random(net, args.input_size is not None)
    if random:
        log.info("Random numbers take the place of data in %s", ", ".join(random))
    ask_for_gradients(net.graph)
    log.info("Performing Forward")
    log.info("Initial loss: %s", number(net._forward(0, len(net.layers) - 1)))
    log.info("Performing Backward")
    net._backward(len(net.layers) - 1, 0)
    log.info("*** Benchmark begins ***")
    log.info("Testing for %d iterations.", args.iterations)
    clock = clock_of(net)
    passes = []
    started = clock.mark()
    for iteration in range(1, args.iterations + 1):
        passes.append(time_pass(net, clock))
        log.info("Iteration: %d forward-backward time: %s ms.", iteration, number(passes[-1].total))
    (total,) = clock.between([started, clock.mark()])
    _report(net, passes, total)
    return 0


def _report(net: Net, passes: list[PassTimes], total: float) -> None:
    forward, backward = (
        [sum(times) / len(passes) for times in zip(*ways, strict=True)]
        for ways in ([one.forward for one in passes], [one.backward for one in passes])
    )
    log.info("Average time per layer: ")
    for layer, there, back in zip(net.layers, forward, backward, strict=True):
        log.info("%10s\tforward: %s ms.", layer.name, number(there))
        if layer.has_backward:
            log.info("%10s\tbackward: %s ms.", layer.name, number(back))
        else:
            log.info("%10s\tbackward: none, %s has no backward pass.", layer.name, layer.type)
    log.info("Average Forward pass: %s ms.", number(sum(forward)))
    log.info("Average Backward pass: %s ms.", number(sum(backward)))
    log.info("Average Forward-Backward: %s ms.", number(total / len(passes)))
    log.info("Total Time: %s ms.", number(total))
    log.info("*** Benchmark ends ***")
