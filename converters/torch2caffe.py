"""Torch to Caffe: a module, or the ``.pt`` file of a converted network, as a prototxt and a caffemodel.

python -m converters.torch2caffe segnet.pt --dialect bvlc
python -m converters.torch2caffe segnet.plain:PlainSegNet --input-shape 1,3,360,480

The weights come out as they went in, bit for bit; a batch normalisation's, where SegNet's BN takes its place, are
computed. What Caffe has no layer for is listed, all of it, and nothing is written then.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.export import ExportedProgram

from caffe_compat import Net
from caffe_compat.tools.arguments import image_size
from converters.model_files import model_writers
from converters.pt_file import load_pt
from converters.tracing.comparison import largest_difference
from converters.tracing.source import build, is_module_name, keyword, load_state, shape
from converters.tracing.translation import module_to_net
from converters.translate import translate, write_translated, write_with_layers
from converters.translation_rules import RULES
from prototxt.dialects import DIALECTS
from prototxt.errors import CaffeError


@dataclass
class Written:
    """The files that a module became, and the names that its inputs and outputs have in them."""

    files: list[Path]
    inputs: list[str]
    outputs: list[str]
    dialect: str


def module_to_caffe(
    module: nn.Module | ExportedProgram,
    example_inputs: Sequence[torch.Tensor],
    output: str | Path,
    *,
    dialect: str | None = None,
    name: str | None = None,
    force: bool = False,
) -> Written:
    """Write what a module computes in ``eval`` as ``OUTPUT.prototxt`` and ``OUTPUT.caffemodel``.

    Args:
        module: of float32; or what torch.export made of one, which has its own inputs.
        example_inputs: what forward takes, by position; only their shapes count.
        output: the new files' name without ending.
        dialect: whose Caffe shall read them; by default ``segnet`` for index unpooling, else ``bvlc``.
        name: the net's name (default: the class).
        force: replace existing files.

    Raises:
        CaffeError: with everything that Caffe or the dialect cannot say, nothing is written then; a file is there
            already; torch.export cannot trace the module.
    """
    traced = module_to_net(module, example_inputs, dialect=dialect, name=name)
    files = write_translated(traced.net, traced.blobs, traced.dialect, output, force=force)
    return Written(files, traced.inputs, traced.outputs, traced.dialect)


def to_caffe(net: Net, output: str | Path, dialect: str | None = None, *, force: bool = False) -> list[Path]:
    """Write a net as ``OUTPUT.prototxt`` and ``OUTPUT.caffemodel``. Returns the files.

    Args:
        net: the net.
        output: the new files' name without ending.
        dialect: whose Caffe shall read them (default: the net's); another one is translated to, see
            ``converters.translate``.
        force: replace existing files.

    Raises:
        CaffeError: with everything that the dialect cannot say, nothing is written then; a file is there already.
    """
    source = net.graph.source
    target = dialect or net.dialect
    if target == net.dialect:
        stem = Path(output)
        writers = model_writers(stem, source, None, target)
        # with its splits and phases: the bytes that Caffe itself would write
        writers[stem.with_name(stem.name + ".caffemodel")] = net.save
        return write_with_layers(stem, source, writers, force)
    blobs = {name: [blob.data for blob in blobs] for name, blobs in net.params.items()}
    own = [blobs.get(layer.name, []) for layer in source.layer]
    if target in RULES:
        source, own = translate(source, blobs, target)
    return write_translated(source, own, target, output, force=force)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m converters.torch2caffe",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "source",
        help="a .pt file made by converters.caffe2torch, or PACKAGE.MODULE:NAME: a torch module's class, a function "
        "that makes one, or a module; it is imported, from the current folder too",
    )
    parser.add_argument("--output", metavar="STEM", help="the new files' name without ending (default: the source's)")
    parser.add_argument(
        "--dialect",
        choices=DIALECTS,
        help="whose Caffe shall read them (default: the net's; for a module segnet if it unpools by index, else bvlc)",
    )
    parser.add_argument("--force", action="store_true", help="replace existing files")
    module = parser.add_argument_group("for a module")
    module.add_argument(
        "--args", type=keyword, nargs="+", default=[], metavar="NAME=VALUE", help="what the class is made with"
    )
    module.add_argument("--weights", metavar="FILE", help="its state dict, a .pt, .pth or .safetensors")
    size = module.add_mutually_exclusive_group()
    size.add_argument("--input-size", type=image_size, metavar="HxW", help="one input of 3 channels and this size")
    size.add_argument(
        "--input-shape", type=shape, action="append", metavar="N,C,H,W", help="an input (once for each, in order)"
    )
    return parser


def _convert_module(args: argparse.Namespace) -> Written:
    shapes = [(1, 3, *args.input_size)] if args.input_size else args.input_shape
    if not shapes:
        raise CaffeError(f"{args.source}: no input; expected --input-size HxW, or --input-shape N,C,H,W for each")
    module = build(args.source, dict(args.args))
    if args.weights:
        load_state(module, args.weights)
    inputs = [torch.randn(one, generator=torch.Generator().manual_seed(i)) for i, one in enumerate(shapes)]
    output = args.output or args.source.rpartition(":")[2]
    written = module_to_caffe(module, inputs, output, dialect=args.dialect, force=args.force)
    print(f"inputs: {', '.join(written.inputs)}; outputs: {', '.join(written.outputs)}; dialect: {written.dialect}")
    print("weights: the module's own" + ("" if args.weights else " (no --weights given: as it is made)"))
    difference = largest_difference(module, inputs, written.files, written.inputs, written.outputs, written.dialect)
    print(f"largest difference to the module, on random inputs: {difference}")
    return written


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit status."""
    args = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    try:
        if is_module_name(args.source):
            files = _convert_module(args).files
        else:
            only = [name for name in ("args", "weights", "input_size", "input_shape") if getattr(args, name)]
            if only:
                raise CaffeError(
                    f"--{only[0].replace('_', '-')} is for a module (PACKAGE.MODULE:NAME); {args.source} is a file"
                )
            files = to_caffe(
                load_pt(args.source), args.output or Path(args.source).stem, args.dialect, force=args.force
            )
    except CaffeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\n".join(f"wrote {path}" for path in files))
    return 0


if __name__ == "__main__":
    sys.exit(main())
