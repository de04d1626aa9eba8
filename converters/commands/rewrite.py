"""Write weights or a solver state in Caffe's other format: binary, or HDF5 where the new name ends in .h5.

The values stay what they are, bit for bit. HDF5 holds names and values alone, so that weights that come back from it
have neither layer types nor a net; Caffe loads them by the layers' names all the same.
"""

from __future__ import annotations

import argparse

from caffe_compat.tools.arguments import add_dialect
from converters.rewriting import rewrite


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """From what to what."""
    parser.add_argument("source", help="a .caffemodel, .caffemodel.h5, .solverstate or .solverstate.h5")
    parser.add_argument("target", help="the new file; the same kind, in either format")
    parser.add_argument("--force", action="store_true", help="replace an existing file")
    add_dialect(parser)


def run(args: argparse.Namespace) -> int:
    """Rewrite."""
    print(rewrite(args.source, args.target, args.dialect, args.force))
    return 0
