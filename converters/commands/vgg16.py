"""Begin a training with VGG16 as the encoder: its weights, from Caffe or torchvision, fitted to a net.

The file that is written has the encoder's layers alone, for `python -m caffe_compat train -weights`; fillers make the
rest. Of torchvision's weights the first convolution is rewritten for BGR images, 0 to 255, or whatever the net's data
layer makes of them. The normalisation of vgg16_bn becomes the net's own, or goes into the convolutions.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from caffe_compat.build_graph import build_graph
from caffe_compat.paths import Paths
from caffe_compat.tools.arguments import add_dialect, add_root
from converters.model_files import write_all
from converters.vgg16.encoder import encoder_of
from converters.vgg16.images import TORCHVISION
from converters.vgg16.source import read_vgg16
from prototxt.caffe_pb2 import TEST, TRAIN
from prototxt.net_file import find_net, read_net
from prototxt.weights_h5 import write_weights_h5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """From what to what."""
    parser.add_argument("prototxt", help="a net prototxt, or the name of a network shipped with the project")
    parser.add_argument(
        "source", help="VGG_ILSVRC_16_layers.caffemodel, or the state dict of torchvision's vgg16 or vgg16_bn"
    )
    parser.add_argument(
        "--output", metavar="FILE", help="a .caffemodel or .caffemodel.h5 (default: NAME_vgg16.caffemodel)"
    )
    parser.add_argument("--force", action="store_true", help="replace an existing file")
    parser.add_argument(
        "--fold_mean",
        action="store_true",
        help="put the mean that Caffe's VGG16 subtracts from images into its first bias (default: as SegNet's authors "
        "did, copy; of torchvision's weights it always is)",
    )
    parser.add_argument(
        "--trained_as",
        choices=tuple(TORCHVISION),
        help="which of torchvision's weights these are, as their images are scaled differently (default: "
        "IMAGENET1K_FEATURES if the classifier holds NaN, as it does there, else IMAGENET1K_V1)",
    )
    parser.add_argument("--phase", choices=("train", "test"), default="train", help="of the net (default: train)")
    add_root(parser)
    add_dialect(parser)


def run(args: argparse.Namespace) -> int:
    """Write the weights."""
    path = find_net(args.prototxt)
    phase = TRAIN if args.phase == "train" else TEST
    graph = build_graph(read_net(path, args.dialect), phase, dialect=args.dialect, paths=Paths(path, args.root))
    encoder = encoder_of(graph, read_vgg16(args.source, args.trained_as), args.fold_mean)
    model = encoder.model()
    target = Path(args.output or f"{path.stem}_vgg16.caffemodel")
    write = partial(write_weights_h5, layers=model.layers) if target.suffix == ".h5" else model.write
    write_all({target: write}, args.force)
    print(f"{encoder.describe()}\nwrote {target}")
    return 0
