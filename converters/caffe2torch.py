"""Caffe to torch: a prototxt, and its caffemodel if there is one, into a ``.pt`` file.

python -m converters.caffe2torch segnet.prototxt --weights segnet.caffemodel
"""

from __future__ import annotations

import argparse
import keyword
import logging
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from caffe_compat import TEST, TRAIN, Net
from caffe_compat.weights import LoadReport
from converters.building import add_net_arguments, build_net, target_problems, told_weights
from converters.check import check_image
from converters.emitting import emit
from converters.summary import summary
from converters.torch_layout import Reference, fit, read_reference
from converters.verifying import verify
from converters.weight_formats import FORMATS, STATE_FORMATS, chosen_format, target_and_writer, write_state
from prototxt.errors import CaffeError
from prototxt.files import replacing
from prototxt.net_file import find_net

_EPILOG = """\
examples:
  python -m converters.caffe2torch segnet.prototxt
      a network shipped with the project (or the file of that name here), with untrained weights
  python -m converters.caffe2torch mine.prototxt --weights mine.caffemodel --check street.png
      your own network and weights, and one image through it
  python -m converters.caffe2torch mine.prototxt --weights mine.caffemodel --emit mine.py
      also the network as a Python file that needs torch alone: from mine import load; net = load("mine.pt")
  python -m converters.caffe2torch mine.prototxt --weights mine.caffemodel --torch-layout package.module:SegNet
      the weights as a state dict of a torch model of your own

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
    parser.add_argument("--output", metavar="FILE", help="the file to write (default: the prototxt's stem, here)")
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="the whole net (pt) or its weights (default: by the output's ending, else pt)",
    )
    parser.add_argument(
        "--emit", metavar="FILE.py", help="also write the network as Python source that needs torch alone"
    )
    parser.add_argument(
        "--torch-layout", metavar="REFERENCE",
        help="write the weights as the state dict of another torch model: a .pt or .pth of its own, or "
        "package.module:Class (default output: the prototxt's stem and _torch)",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="replace an existing output file")
    parser.add_argument("--phase", choices=("train", "test"), default="test", help="the phase to build (default: test)")
    add_net_arguments(parser)
    parser.add_argument("--check", metavar="IMAGE", help="run one image; writes its labels as a picture")
    parser.add_argument(
        "--verify", nargs="?", const="", metavar="IMAGE",
        help="run Caffe's side and what was written on random input (and on the image, or --check's), compare layers",
    )  # fmt: skip
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
    emit_to: str | Path | None = None,
    layout: Reference | None = None,
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
        emit_to: also write the net as Python source (see ``converters.emitting``).
        layout: write the state dict of this model with the net's weights instead (see ``converters.torch_layout``).

    Returns:
        The net, the file, and what matched of the weights.

    Raises:
        CaffeError: of the files or the net; an output exists; what cannot be emitted or does not fit the layout.
    """
    path = find_net(prototxt)
    target, write = target_and_writer(path.stem + "_torch" * (layout is not None), output, kind)
    emit_to = None if emit_to is None else Path(emit_to)
    _check_outputs(target, emit_to, layout, chosen_format(output, kind), force)
    net, report = build_net(
        path,
        weights=weights,
        phase=phase,
        dialect=dialect,
        input_size=input_size,
        input_shapes=input_shapes,
        roots=roots,
    )
    with ExitStack() as together:
        if emit_to is not None:
            source = emit(net, target.name, emit_to.stem)
            together.enter_context(replacing(emit_to)).write_text(source, "utf-8")
        if layout is not None:
            write_state(fit(net, layout).state, target, chosen_format(output, kind))
        else:
            write(net, report is not None, str(weights or "fillers"))
    return net, target, report


def _check_outputs(target: Path, emit_to: Path | None, layout: Reference | None, kind: str, force: bool) -> None:
    """Raise CaffeError for files that cannot be written, before anything long begins."""
    problems = target_problems(target, force)
    if emit_to is not None:
        problems += target_problems(emit_to, force, "--emit")
        shadowing = {"numpy", "safetensors", "torch", *sys.stdlib_module_names, *keyword.kwlist}
        if emit_to.suffix != ".py" or not emit_to.stem.isidentifier() or emit_to.stem in shadowing:
            problems.append(f"{emit_to}: expected a name to import it by that is nothing else's, such as my_net.py")
        if kind not in ("pt", "safetensors") or layout is not None:
            problems.append(
                f"{emit_to}: loads a .pt or .safetensors with Caffe's names; expected --emit without "
                f"{'--torch-layout' if layout is not None else f'--format {kind}'}"
            )
    if layout is not None and kind not in STATE_FORMATS:
        problems.append(f"{target}: no state dict is written as {kind}; expected {', '.join(STATE_FORMATS)}")
    if problems:
        raise CaffeError(problems)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit status."""
    parser = _parser()
    args = parser.parse_args(arguments)
    if args.verify is not None and args.torch_layout:
        parser.error("--verify reads back what keeps Caffe's names; expected it without --torch-layout")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    try:
        layout = read_reference(args.torch_layout) if args.torch_layout else None
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
            emit_to=args.emit,
            layout=layout,
        )
        print(summary(net.graph))
        print(told_weights(report, args.weights))
        if layout is not None:
            print(fit(net, layout).table())
        print(f"wrote {target}" + (f" and {args.emit}" if args.emit else ""))
        if args.check:
            print(check_image(net, args.check, target.with_name(target.stem + "_check.png")))
        if args.verify is not None:
            told, equal = verify(net, target, args.verify or args.check)
            print(told)
            return 0 if equal else 1
    except CaffeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
