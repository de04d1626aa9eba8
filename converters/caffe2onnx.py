"""Caffe to ONNX: a prototxt, and its caffemodel if there is one, into a model for other engines.

python -m converters.caffe2onnx segnet.prototxt --weights segnet.caffemodel
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from caffe_compat import Net
from caffe_compat.layer_base import Context
from caffe_compat.tools.arguments import count
from converters.building import add_net_arguments, build_net, target_problems, told_weights
from converters.pt_file import load_pt, read_pt
from converters.summary import human
from prototxt.errors import CaffeError
from prototxt.files import replacing
from prototxt.net_file import find_net

if TYPE_CHECKING:
    from onnx import ModelProto

_EPILOG = """\
examples:
  python -m converters.caffe2onnx segnet.prototxt --weights segnet.caffemodel --verify
      the model beside the net, for random images; the exit status is 1 where labels differ
  python -m converters.caffe2onnx mine.pt --batch 1 --labels
      a net that converters.caffe2torch wrote, for one image at a time, with the labels as an output

With ONNX Runtime:
  session = onnxruntime.InferenceSession("segnet.onnx")
  (prob,) = session.run(["prob"], {"data": images})    # float32 (N, 3, H, W), BGR, 0 to 255
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m converters.caffe2onnx",
        description="Convert a Caffe network to ONNX.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("net", help="a prototxt or .pt file, or the name of a network shipped with the project")
    parser.add_argument("--output", metavar="FILE", help="the file to write (default: the net's stem, here)")
    parser.add_argument("--force", action="store_true", help="replace an existing output file")
    add_net_arguments(parser)
    parser.add_argument("--batch", type=count, metavar="N", help="fix the number of images (default: any)")
    parser.add_argument("--labels", action="store_true", help="add the output `labels`, the best class of each pixel")
    parser.add_argument(
        "--without-samples", action="store_true", help="leave out Dropout that samples in TEST (Bayesian SegNet)"
    )
    parser.add_argument(
        "--verify", action="store_true", help="run ONNX Runtime beside the net; exit status 1 where labels differ"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit status."""
    args = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    try:
        return _run(args)
    except CaffeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _run(args: argparse.Namespace) -> int:
    _check_packages(args.verify)
    from converters.onnx_graph.model import to_onnx, without_samples

    path = Path(args.net) if Path(args.net).suffix == ".pt" else find_net(args.net)
    target = Path(args.output or f"{path.stem}.onnx")
    if problems := target_problems(target, args.force):
        raise CaffeError(problems)
    net, source = _open_pt(path, args) if path.suffix == ".pt" else _open_prototxt(path, args)
    with without_samples(net) if args.without_samples else nullcontext():
        metadata = {"net": path.name, "weights": source}
        exported = to_onnx(net, batch=args.batch, labels=args.labels, metadata=metadata)
    with replacing(target) as draft:
        size = draft.write_bytes(exported.model.SerializeToString())
    graph = exported.model.graph
    for what, values in (("input", graph.input), ("output", graph.output)):
        for value in values:
            dims = [dim.dim_param or dim.dim_value or "?" for dim in value.type.tensor_type.shape.dim]
            print(f"{what} {value.name}: {'×'.join(map(str, dims)) or 'scalar'}")
    print("".join(f"note: {remark}\n" for remark in exported.remarks), end="")
    print(f"wrote {target} ({human(size, 'B')}, opset {exported.model.opset_import[0].version})")
    return _verify(net, exported.model, args) if args.verify else 0


def _verify(net: Net, model: ModelProto, args: argparse.Namespace) -> int:
    """Print how the model of a net compares with it, in both without samples. Returns the exit status."""
    from converters.onnx_graph.comparing import LEAST, compare
    from converters.onnx_graph.model import to_onnx, without_samples

    with without_samples(net) as sampling:
        if sampling and not args.without_samples:
            model = to_onnx(net, batch=args.batch, labels=args.labels).model
            print("compared without Dropout's samples, which are others in every run")
        comparisons = compare(net, model)
        print("\n".join(comparison.describe() for comparison in comparisons))
        if all(one.agreement is None or one.agreement >= LEAST for one in comparisons):
            return 0
        print(
            "beside the net in float64 (if they are the same there, near-ties in pooling windows made the difference):"
        )
        print("\n".join(comparison.describe() for comparison in compare(net.double(), model)))
    print(f"error: the labels differ; expected {LEAST:.1%} of them the same", file=sys.stderr)
    return 1


def _open_prototxt(path: Path, args: argparse.Namespace) -> tuple[Net, str]:
    """The net, and where its weights come from."""
    net, report = build_net(
        path,
        weights=args.weights,
        dialect=args.dialect,
        input_size=args.input_size,
        input_shapes=dict(args.input_shape),
        roots=args.root,
    )
    print(told_weights(report, args.weights))
    return net, args.weights or "fillers"


def _open_pt(path: Path, args: argparse.Namespace) -> tuple[Net, str]:
    """The same of a .pt file. Raises CaffeError where something is given that the file has itself."""
    given = [f"--{name}" for name in ("weights", "dialect", "root") if getattr(args, name)]
    if given:
        raise CaffeError(f"{path}: {', '.join(given)} beside a .pt file; expected none, the file holds all of it")
    net = load_pt(path).eval()
    shapes = {name: tuple(net.blobs[name].shape) for name in net.graph.feeds}
    sized = Context(input_shapes=dict(args.input_shape), image_size=args.input_size)
    for name, shape in shapes.items():
        net.blobs[name].reshape(*sized.sized(name, shape))
    net.reshape()
    return net, read_pt(path)["source"]


def _check_packages(with_runtime: bool) -> None:
    """Raise CaffeError where onnx is not installed, or onnxruntime where it is needed."""
    for package in ("onnx", "onnxruntime") if with_runtime else ("onnx",):
        try:
            __import__(package)
        except ImportError:
            raise CaffeError(
                f"this takes the package {package}, which is not installed. Install it with `pip install "
                f'"caffe-segnet[onnx]"` (or `pip install {package}`)'
            ) from None


if __name__ == "__main__":
    sys.exit(main())
