"""Put batch normalisation for inference into the weights of the layers around it.

For weights with their statistics merged in (SegNet: python -m segnet.bn_statistics), or that keep them (BatchNorm).
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from caffe_compat import TEST, Net
from caffe_compat.absorbing import absorb
from caffe_compat.tools.arguments import add_dialect
from caffe_compat.weights import load_weights
from converters.diagnosis import diagnose
from converters.model_files import blobs_by_layer, model_writers, write_all
from prototxt.net_file import find_net, read_net

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """From what to what."""
    parser.add_argument("prototxt", help="a net for inference, or the name of a network shipped with the project")
    parser.add_argument("weights", help="its .caffemodel or .caffemodel.h5")
    parser.add_argument("--output", metavar="STEM", help="the new files' name without ending (default: NAME_absorbed)")
    parser.add_argument("--force", action="store_true", help="replace existing files")
    add_dialect(parser)


def run(args: argparse.Namespace) -> int:
    """Absorb."""
    path = find_net(args.prototxt)
    net = read_net(path, args.dialect)
    load_weights(Net(net, TEST).graph, args.weights)  # raises where they do not fit
    for line in diagnose(net, args.weights):
        log.warning("%s", line)
    stored = blobs_by_layer(args.weights)
    folded, blobs, told = absorb(net.message, [stored.get(layer.name, []) for layer in net.message.layer])
    stem = Path(args.output or f"{path.stem}_absorbed")
    written = write_all(model_writers(stem, folded, blobs, net.dialect), args.force)
    print("\n".join([*told, *(f"wrote {file}" for file in written)]))
    return 0
