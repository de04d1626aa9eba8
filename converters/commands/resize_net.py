"""Rewrite a net for images of another size: inputs, data layers, and the sizes of index upsampling.

Every `upsample_h` and `upsample_w` becomes the plane that its pooling had, so that values go back where they came from.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from caffe_compat.tools.arguments import add_dialect, image_size
from converters.resizing import resize_net
from prototxt import text
from prototxt.errors import CaffeError
from prototxt.files import replacing
from prototxt.net_file import find_net, read_net


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """From what to what."""
    parser.add_argument("prototxt", help="a net prototxt, or the name of a network shipped with the project")
    parser.add_argument("--size", type=image_size, required=True, metavar="HxW", help="the new height and width")
    parser.add_argument("--output", metavar="FILE", help="the new prototxt (default: NAME_HxW.prototxt, here)")
    parser.add_argument("--force", action="store_true", help="replace an existing file")
    add_dialect(parser)


def run(args: argparse.Namespace) -> int:
    """Resize."""
    path = find_net(args.prototxt)
    height, width = args.size
    output = Path(args.output or f"{path.stem}_{height}x{width}.prototxt")
    if output.exists() and not args.force:
        raise CaffeError(f"{output}: exists already; expected a new name (--output), or --force to replace it")
    resized, told = resize_net(read_net(path, args.dialect), args.size)
    with replacing(output) as draft:
        draft.write_text(text.format(resized), "utf-8")
    print("\n".join([*told, f"wrote {output}"]))
    return 0
