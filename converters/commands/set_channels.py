"""Rewrite a net for images with another number of channels, and fit the weights that read them.

Channels that are added weigh nothing at first, so the net computes what it did; where one channel is left, it weighs
what all of them did.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from caffe_compat.tools.arguments import add_dialect, count
from converters.channel_count import fit_weights, set_channels
from converters.model_files import blobs_by_layer, model_writers, write_all
from prototxt.net_file import find_net, read_net


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """From what to what."""
    parser.add_argument("prototxt", help="a net prototxt, or the name of a network shipped with the project")
    parser.add_argument("--channels", type=count, required=True, metavar="N", help="the new number of channels")
    parser.add_argument("--weights", metavar="FILE", help="its .caffemodel or .caffemodel.h5, to be written anew too")
    parser.add_argument("--output", metavar="STEM", help="the new files' name without ending (default: NAME_Nchannels)")
    parser.add_argument("--force", action="store_true", help="replace existing files")
    add_dialect(parser)


def run(args: argparse.Namespace) -> int:
    """Set the channels."""
    path = find_net(args.prototxt)
    net = read_net(path, args.dialect)
    changed, readers, told = set_channels(net, args.channels)
    stored = blobs_by_layer(args.weights)
    own = []
    for layer in changed.layer:
        blobs = stored.get(layer.name)
        if layer.name in readers and blobs:
            if layer.type != "Convolution" or layer.convolution_param.group > 1:
                told.append(f"{layer.name}: without weights, to be filled anew")
                blobs = None
            else:
                blobs = [fit_weights(blobs[0], args.channels), *blobs[1:]]
                told.append(f"{layer.name}: weights {blobs[0].shape}")
        own.append(blobs)
    stem = Path(args.output or f"{path.stem}_{args.channels}channels")
    written = write_all(model_writers(stem, changed, own if args.weights else None, net.dialect), args.force)
    print("\n".join([*told, *(f"wrote {file}" for file in written)]))
    return 0
