"""Caffe to torch: a prototxt, and its caffemodel if there is one, into a ``.pt`` file.

python -m converters.caffe2torch segnet.prototxt --weights segnet.caffemodel
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from caffe_compat import TEST, TRAIN, Net
from caffe_compat.tools.arguments import image_size, input_shape, root
from caffe_compat.weights import LoadReport, load_weights
from converters.check import check_image
from converters.inspection import remarks
from converters.summary import summary
from converters.weight_formats import FORMATS, target_and_writer
from prototxt.dialects import DIALECTS
from prototxt.errors import CaffeError
from prototxt.net_file import find_net, read_net

_EPILOG = """\
examples:
  python -m converters.caffe2torch segnet.prototxt
      a network shipped with the project (or the file of that name here), with untrained weights
  python -m converters.caffe2torch mine.prototxt --weights mine.caffemodel --check street.png
      your own network and weights, and one image through it

In Python:
  from converters.pt_file import load_pt
  net = load_pt("mine.pt")                 # a torch.nn.Module
  prob = net(data=images)["prob"]          # images: float tensor (N, 3, H, W), BGR, 0 to 255
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m converters.caffe2torch",
        description="Convert a Caffe network to PyTorch.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("prototxt", help="a prototxt file, or the name of a network shipped with the project")
    parser.add_argument(
        "--weights", metavar="FILE", help="a .caffemodel or .caffemodel.h5 (default: what the fillers give)"
    )
    parser.add_argument("--output", metavar="FILE", help="the file to write (default: the prototxt's stem, here)")
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="the whole net (pt) or its weights (default: by the output's ending, else pt)",
    )
    parser.add_argument("--force", action="store_true", help="replace an existing output file")
    parser.add_argument("--phase", choices=("train", "test"), default="test", help="the phase to build (default: test)")
    parser.add_argument("--dialect", choices=DIALECTS, help="whose Caffe to follow (default: what the file gives away)")
    parser.add_argument("--input-size", type=image_size, metavar="HxW", help="height and width of the input")
    parser.add_argument(
        "--input-shape", type=input_shape, action="append", default=[], metavar="NAME=N,C,H,W",
        help="shape of one input, or of one top of a data layer (may be repeated)",
    )  # fmt: skip
    parser.add_argument(
        "--root", type=root, action="append", default=[], metavar="OLD=NEW",
        help="look for files under NEW that the prototxt names under OLD (may be repeated)",
    )  # fmt: skip
    parser.add_argument("--check", metavar="IMAGE", help="run one image; writes its labels as a picture")
    return parser


def convert(
    prototxt: str,
    output: str | Path | None = None,
    *,
    weights: str | None = None,
    phase: int = TEST,
    dialect: str | None = None,
    input_size: tuple[int, int] | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    roots: Sequence[tuple[str, str]] = (),
    force: bool = False,
    kind: str | None = None,
) -> tuple[Net, Path, LoadReport | None]:
    """Build a net, load its weights, write the ``.pt`` file, or the weights in another format.

    Args:
        prototxt: a file, or the name of a shipped network.
        output: where to write; by default the prototxt's stem with the format's ending in the current folder.
        weights: the weights file; without it the fillers' values are written, marked as untrained.
        phase: TRAIN or TEST.
        dialect: as for Net.
        input_size: (height, width) of every image input.
        input_shapes: as for Net.
        roots: as for Net.
        force: replace an existing file.
        kind: the format, one of ``weight_formats.FORMATS``; by default what the output's ending says, or ``pt``.

    Returns:
        The net, the file, and what matched of the weights.

    Raises:
        CaffeError: of the files or the net; FileExistsError: the output exists.
    """
    path = find_net(prototxt)
    target, write = target_and_writer(path.stem, output, kind)
    if target.exists() and not force:
        raise CaffeError(f"{target}: exists already; expected a new name (--output), or --force to replace it")
    if not target.parent.is_dir():
        raise CaffeError(f"{target}: the folder {target.parent} does not exist; expected an existing one")
    file = read_net(path, dialect)
    net = Net(file, phase, dialect=dialect, roots=roots, image_size=input_size, input_shapes=input_shapes, fill=False)
    report = load_weights(net.graph, weights) if weights else None
    net.fill_parameters(report.blobs if report else ())
    if report is not None and not report.matched:
        file_has, net_has = (", ".join([*names[:4], "…"]) for names in (report.only_in_file, report.only_in_net))
        raise CaffeError(
            f"{weights}: weights for {file_has}; expected some for layers of {path}: {net_has}. Give the weights "
            "of this net, or rename the layers in the prototxt"
        )
    write(net, report is not None and bool(report.matched), str(weights or "fillers"))
    return net, target, report


def not_finite(net: Net) -> list[str]:
    """A line for each parameter with NaN or infinite values, as a training that went wrong leaves them."""
    return [
        f"{node.where}: blob {i}: {remarks(blob.data)}"
        for node in net.graph.nodes
        for i, blob in enumerate(node.layer.blobs)
        if not np.isfinite(blob.data).all()
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit status."""
    args = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    try:
        net, target, report = convert(
            args.prototxt,
            args.output,
            weights=args.weights,
            phase=TRAIN if args.phase == "train" else TEST,
            dialect=args.dialect,
            input_size=args.input_size,
            input_shapes=dict(args.input_shape),
            roots=args.root,
            force=args.force,
            kind=args.format,
        )
        print(summary(net.graph))
        if report is None:
            print("weights: untrained (what the fillers give); --weights FILE loads a caffemodel")
        else:
            print(report.describe(args.weights))
            print("".join(f"warning: {line}\n" for line in not_finite(net)), end="")
        print(f"wrote {target}")
        if args.check:
            print(check_image(net, args.check, target.with_name(target.stem + "_check.png")))
    except CaffeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
