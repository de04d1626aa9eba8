"""Score a model: run its net for some batches and give the means of its outputs.

Every value of every output is logged for each batch, then the mean loss, and the mean of each value. The net needs a
data layer; it says which images are read, and in what batches.
"""

from __future__ import annotations

import argparse
import logging

import numpy as np
from tqdm import tqdm

from caffe_compat.heap import keep_freed
from caffe_compat.tools.arguments import add_net, count, open_net, warn_of_inputs
from caffe_compat.training.report import number, output_lines, values_of

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The net, and for how long."""
    add_net(parser, "TEST", needs_weights=True)
    parser.add_argument("--iterations", type=count, default=50, metavar="N", help="batches to run (default: 50)")


def run(args: argparse.Namespace) -> int:
    """Score."""
    keep_freed()
    net = open_net(args)
    net.keeps_graph = False
    warn_of_inputs(net)
    log.info("Running for %d iterations.", args.iterations)
    loss = 0.0
    sums: dict[str, np.ndarray] = {}
    for batch in tqdm(range(args.iterations), unit="batch", disable=None):
        loss += net._forward(0, len(net.layers) - 1)
        for name, values in values_of(net).items():
            for value in values:
                log.info("Batch %d, %s = %s", batch, name, number(value))
            sums[name] = sums[name] + values if name in sums else values
    log.info("Loss: %s", number(loss / args.iterations))
    means = {name: total / args.iterations for name, total in sums.items()}
    for line in output_lines("Test", means, net.blob_loss_weights):
        log.info("%s", line.partition(": ")[2])  # without `Test net output #0`
    return 0
