"""Rewrite a net for another number of classes: the layers that make the scores, and the loss's class weights.

With weights, everything but the changed layers is kept: Caffe and this project fill those anew when training begins.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from caffe_compat.tools.arguments import add_dialect, count
from converters.class_count import set_classes
from converters.model_files import blobs_by_layer, model_writers, write_all
from prototxt.net_file import find_net, read_net


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """From what to what."""
    parser.add_argument("prototxt", help="a net prototxt, or the name of a network shipped with the project")
    parser.add_argument("--classes", type=count, required=True, metavar="N", help="the new number of classes")
    parser.add_argument("--old", type=count, metavar="N", help="the number to change, where heads have different ones")
    parser.add_argument("--weights", metavar="FILE", help="its .caffemodel or .caffemodel.h5, to be written anew too")
    parser.add_argument("--output", metavar="STEM", help="the new files' name without ending (default: NAME_Nclasses)")
    parser.add_argument("--force", action="store_true", help="replace existing files")
    add_dialect(parser)


def run(args: argparse.Namespace) -> int:
    """Set the classes."""
    path = find_net(args.prototxt)
    net = read_net(path, args.dialect)
    changed, refit, told = set_classes(net, args.classes, args.old)
    stored = blobs_by_layer(args.weights)
    own = [None if layer.name in refit else stored.get(layer.name) for layer in changed.layer]
    stem = Path(args.output or f"{path.stem}_{args.classes}classes")
    written = write_all(model_writers(stem, changed, own if args.weights else None, net.dialect), args.force)
    if args.weights:
        told.append(f"without weights: {', '.join(layer.name for layer in changed.layer if layer.name in refit)}")
    print("\n".join([*told, *(f"wrote {file}" for file in written)]))
    return 0
