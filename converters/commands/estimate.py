"""Tell what a net will take before it runs: multiply-adds, parameters, memory to run and to train.

Nothing is allocated: the figures come from the net's graph.
"""

from __future__ import annotations

import argparse

from caffe_compat.build_graph import build_graph
from caffe_compat.paths import Paths
from caffe_compat.tools.arguments import add_dialect, add_root, image_size, input_shape
from caffe_compat.training.memory import estimate
from converters.summary import human, summary
from prototxt.caffe_pb2 import TEST, TRAIN
from prototxt.net_file import find_net, read_net


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which net, and at which size."""
    parser.add_argument("prototxt", help="a net prototxt, or the name of a network shipped with the project")
    parser.add_argument("--phase", choices=("train", "test"), default="test", help="the phase to build (default: test)")
    parser.add_argument("--input_size", type=image_size, metavar="HxW", help="height and width of the input")
    parser.add_argument(
        "--input_shape", type=input_shape, action="append", default=[], metavar="NAME=N,C,H,W",
        help="shape of one input, or of one top of a data layer (may be repeated)",
    )  # fmt: skip
    add_root(parser)
    add_dialect(parser)


def run(args: argparse.Namespace) -> int:
    """Estimate."""
    path = find_net(args.prototxt)
    graph = build_graph(
        read_net(path, args.dialect),
        TRAIN if args.phase == "train" else TEST,
        dialect=args.dialect,
        input_shapes=dict(args.input_shape),
        image_size=args.input_size,
        paths=Paths(path, args.root),
    )
    print(summary(graph))
    batch = max((graph.blobs[name][0] for name in graph.feeds if graph.blobs[name]), default=1)
    for what, options in (
        ("to train, every blob kept", {}),
        ("to train, channels_last or half precision", {"lean": True}),
        ("to train, checkpointing", {"checkpointing": True}),
    ):
        need = estimate(graph, 1, **options)
        print(f"{what}: about {human(need.total(batch), 'B')} (batch of {batch}; {human(need.per_item, 'B')} an item)")
    return 0
