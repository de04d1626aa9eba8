"""The step between training and inference: batch-norm statistics, gathered over the data and merged into the weights.

    python -m segnet.bn_statistics train.prototxt snapshot.caffemodel test_weights.caffemodel

SegNet's BN keeps no statistics: in training (bn_mode LEARN) it normalises with those of the batch, and for inference
(bn_mode INFERENCE) its scale and shift must contain them. This runs the training net over its data, whatever data layer
that is, with dropout off (but for sample_weights_test), and writes weights for the inference net:

    scale' = scale / sqrt(variance + 1e-9)    shift' = shift - mean * scale'

By default the statistics are those of the tutorial's compute_bn_statistics.py under Python 2: over n // B + n % B
batches of B out of n entries (so that some entries count twice), the mean of the batches' means and the mean of their
biased variances. ``corrected`` passes over every entry once, adds the variance of the means, and divides by one less.

BVLC's BatchNorm layers keep their own statistics in training and need nothing of this.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.hooks import RemovableHandle
from tqdm import tqdm

from caffe_compat import TRAIN, Net, NetError, set_random_seed
from caffe_compat.data_layer import DataLayer
from caffe_compat.graph import Node
from caffe_compat.layer_types.bn import BN
from caffe_compat.net import NetSource
from caffe_compat.tools.arguments import add_dialect, add_gpu, add_root, count, use_device
from caffe_compat.weights import load_weights
from prototxt.caffe_pb2 import BNParameter
from prototxt.errors import CaffeError
from prototxt.files import check_folder
from prototxt.net_file import find_net
from prototxt.weights_h5 import H5Weights, read_weights, write_weights_h5

PathName = str | os.PathLike[str]

_EPSILON = 1e-9  # as in training


class BNStatistics(NamedTuple):
    """What was found for one BN layer, and its parameters with it merged in; each (C,) in float32."""

    mean: np.ndarray
    variance: np.ndarray
    scale: np.ndarray
    shift: np.ndarray


class _Batch(NamedTuple):
    """What a BN layer saw of a batch: mean and biased variance (C,) in float64, and how many values for each."""

    mean: torch.Tensor
    variance: torch.Tensor
    values: int


def bn_statistics(
    network: Net | NetSource,
    weights: PathName | None = None,
    *,
    corrected: bool = False,
    iterations: int | None = None,
    in_order: bool = False,
    roots: Sequence[tuple[str, str]] = (),
    dialect: str | None = None,
) -> dict[str, BNStatistics]:
    """Gather the statistics of every BN layer of a training net.

    Args:
        network: the training net, or its prototxt. A net is left as it was, but for its blobs.
        weights: a .caffemodel or .caffemodel.h5 as the training saved it, to load into the net first.
        corrected: each entry once, and the variance of all its values; by default as the tutorial's script.
        iterations: batches to run; by default what the number of the data layer's entries asks for.
        in_order: read the entries in their order even if the prototxt shuffles them.
        roots, dialect: as for Net.

    Returns:
        Layer name → statistics, in the order of the net.

    Raises:
        NetError: there is no BN layer to gather for, or weights or data are missing; and as Net and ``load_weights``.
    """
    net = network if isinstance(network, Net) else Net(network, TRAIN, roots=roots, dialect=dialect)
    targets = [i for i, node in enumerate(net.graph.nodes) if isinstance(node.layer, BN) and not node.layer.affine_only]
    problems = _problems(net, targets, iterations)
    if problems:
        raise NetError(problems)
    needed = _needed(net, targets)
    if weights is not None:
        _load(net, needed, weights)
    readers = [net.layers[i] for i in needed if isinstance(net.layers[i], DataLayer)]
    with _prepared(net, readers, in_order):
        batches, last = (iterations, 0) if iterations is not None else _plan(net, readers, corrected)
        noted = _run(net, needed, targets, batches, last)
    return {net.layers[i].name: _merged(net.graph.nodes[i], *_summed(noted[i], corrected)) for i in targets}


def write_merged(statistics: dict[str, BNStatistics], weights: PathName, output: PathName) -> None:
    """Write a weights file again with statistics merged into its BN layers, which then say ``bn_mode: INFERENCE``.

    Everything else stays, the dialect too.

    Raises:
        CaffeError: the output asks for another format than the weights have; and as for any weights file.
    """
    stored = read_weights(weights)
    in_hdf5 = isinstance(stored, H5Weights)
    if in_hdf5 != str(output).endswith(".h5"):
        raise CaffeError(f"{output}: {weights} is {'' if in_hdf5 else 'not '}HDF5; expected the same ending for both")
    for layer in stored.layers:
        if layer.name in statistics:
            found = statistics[layer.name]
            for blob, values in zip(layer.blobs, (found.scale, found.shift), strict=True):
                blob.data = values.reshape(blob.shape)
            layer.message.bn_param.bn_mode = BNParameter.INFERENCE
            del layer.message.top[1:]  # there are no statistics to put out any more
    if in_hdf5:
        write_weights_h5(output, stored.layers)
    else:
        stored.write(output)


def _problems(net: Net, targets: Sequence[int], iterations: int | None) -> list[str]:
    """Why statistics cannot be gathered."""
    if iterations is not None and iterations < 1:
        return [f"{iterations} batches to run; expected at least 1"]
    nodes = net.graph.nodes
    named = Counter(param.settings.name for node in nodes for param in node.params if param.settings.name)
    if targets:
        return [
            f"{nodes[i].where}: shares its parameters with another layer, but each has statistics of its own; expected "
            "BN layers whose `param` have different names, or none"
            for i in targets
            if any(named[param.settings.name] > 1 for param in nodes[i].params)
        ]
    types = {layer.type for layer in net.layers}
    if "BN" in types:
        return ["every BN layer has `bn_mode: INFERENCE`; expected the training prototxt, where they learn"]
    if "BatchNorm" in types:
        return [
            "no BN layer, as SegNet has it, but BatchNorm layers, which gather their statistics in training: this step "
            "is not needed; use the weights as they are"
        ]
    return ["no BN layer; expected the training prototxt of a net with batch normalisation"]


def _needed(net: Net, targets: Sequence[int]) -> list[int]:
    """The layers that the BN layers hang on, with these: no loss and no accuracy."""
    wanted: set[str] = set()
    needed = []
    for i in range(max(targets), -1, -1):
        node = net.graph.nodes[i]
        if i in targets or wanted & set(node.tops):
            needed.append(i)
            wanted = (wanted - set(node.tops)) | set(node.bottoms)
    return needed[::-1]


def _load(net: Net, needed: Sequence[int], weights: PathName) -> None:
    """Load weights, of which none that is needed may be missing. Raises NetError."""
    merged = [
        f"{weights}: BN layer {layer.name!r} has `bn_mode: INFERENCE`: its statistics are merged in already; expected "
        "the weights as the training saved them"
        for layer in read_weights(weights).layers
        if layer.message.bn_param.bn_mode == BNParameter.INFERENCE
    ]
    if merged:
        raise NetError(merged)
    missing = set(load_weights(net.graph, weights).only_in_net)
    wheres = [net.graph.nodes[i].where for i in needed if net.graph.nodes[i].layer.name in missing]
    if wheres:
        raise NetError([f"{where}: not in {weights}; expected trained weights for it" for where in wheres])


@contextmanager
def _prepared(net: Net, readers: Sequence[DataLayer], in_order: bool) -> Iterator[None]:
    """The net in TEST, keeping nothing for a backward pass, its data read anew; afterwards all is as before."""
    keeps_graph, training = net.keeps_graph, net.training
    sources = [reader.source for reader in readers]
    net.keeps_graph = False
    net.eval()
    try:
        for reader in readers:
            reader.source = None
            own = reader.open()
            own.shuffle = own.shuffle and not in_order
        yield
    finally:
        net.keeps_graph = keeps_graph
        net.train(training)
        for reader, source in zip(readers, sources, strict=True):
            reader.source.close()
            reader.source = source


def _plan(net: Net, readers: Sequence[DataLayer], corrected: bool) -> tuple[int, int]:
    """How many batches to run, and how many items of the last one are new, 0 for all. Raises NetError."""
    if not readers:
        told = ", ".join(node.where for node in net.graph.nodes if node.layer.is_source) or ", ".join(net.inputs)
        raise NetError(
            f"the net's data comes from {told}, of which nobody knows how many there are; expected a data layer that "
            "reads files, or the number of batches to run (iterations, --iterations)"
        )
    entries, batch = len(readers[0].source), readers[0].source.batch_size
    if not corrected:
        return entries // batch + entries % batch, 0
    return -(-entries // batch), entries % batch


def _run(net: Net, needed: Sequence[int], targets: Sequence[int], batches: int, last: int) -> dict[int, list[_Batch]]:
    """Run the batches. Gives what each target saw of them."""
    noted: dict[int, list[_Batch]] = {i: [] for i in targets}

    def listen(i: int) -> RemovableHandle:
        def note(_: BN, bottoms: tuple[torch.Tensor]) -> None:
            (x,) = bottoms
            variance, mean = (values.double().cpu() for values in torch.var_mean(x, (0, 2, 3), correction=0))
            noted[i].append(_Batch(mean, variance, x.numel() // x.shape[1]))

        return net.layers[i].register_forward_pre_hook(note)

    handles = [listen(i) for i in targets]
    try:
        for iteration in tqdm(range(batches), desc="batches", disable=None):
            for i in needed:
                net._forward(i, i)
                if last and iteration == batches - 1 and isinstance(net.layers[i], DataLayer):
                    for top in net.graph.nodes[i].tops:  # beyond these items the data begins anew
                        net.blobs[top].put_data(net.blobs[top].data_tensor()[:last])
    finally:
        for handle in handles:
            handle.remove()
    return noted


def _summed(batches: Sequence[_Batch], corrected: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean and the variance (C,) over all batches."""
    means, variances = (torch.stack([batch[half] for batch in batches]) for half in (0, 1))
    if not corrected:
        return means.mean(0), variances.mean(0)
    total = sum(batch.values for batch in batches)
    shares = torch.tensor([[batch.values / total] for batch in batches], dtype=torch.float64)
    mean = (shares * means).sum(0)
    variance = (shares * (variances + (means - mean) ** 2)).sum(0)
    return mean, variance * total / max(1, total - 1)


def _merged(node: Node, mean: torch.Tensor, variance: torch.Tensor) -> BNStatistics:
    """The statistics of a layer, and its parameters with them merged in."""
    scale, shift = (blob.data_tensor().double().cpu().flatten() for blob in node.layer.blobs)
    factor = scale / (variance + _EPSILON).sqrt()
    found = (mean, variance, factor, shift - mean * factor)
    return BNStatistics(*(values.float().numpy() for values in found))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m segnet.bn_statistics",
        description="Gather batch-norm statistics with a training net and merge them into weights for inference.",
    )
    parser.add_argument("prototxt", help="the training net: a file, or the name of a network shipped with the project")
    parser.add_argument("weights", help="a .caffemodel or .caffemodel.h5 as the training saved it")
    parser.add_argument("output", help="the weights to write, for the inference net")
    parser.add_argument(
        "--corrected", action="store_true",
        help="every entry once, and the variance of all values (default: as the tutorial's compute_bn_statistics.py)",
    )  # fmt: skip
    parser.add_argument(
        "--iterations", type=count, metavar="N", help="batches to run (default: as many as the data asks)"
    )
    parser.add_argument("--in-order", action="store_true", help="do not shuffle, even if the prototxt does")
    parser.add_argument("--seed", type=int, default=0, help="of the shuffling (default: 0)")
    add_gpu(parser)
    parser.add_argument("--force", action="store_true", help="replace an existing output")
    add_root(parser)
    add_dialect(parser)
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    try:
        if Path(args.output).exists() and not args.force:
            raise CaffeError(f"{args.output}: exists already; expected a new name, or --force to replace it")
        check_folder(args.output)
        use_device(args.gpu)
        set_random_seed(args.seed)
        found = bn_statistics(
            find_net(args.prototxt),
            args.weights,
            corrected=args.corrected,
            iterations=args.iterations,
            in_order=args.in_order,
            roots=args.root,
            dialect=args.dialect,
        )
        write_merged(found, args.weights, args.output)
    except CaffeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {args.output}: the statistics of {len(found)} BN layers are merged in")
    return 0


if __name__ == "__main__":
    sys.exit(main())
