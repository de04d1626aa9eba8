"""Torch to Caffe: the ``.pt`` file of a converted network back into a prototxt and a caffemodel.

python -m converters.torch2caffe segnet.pt --dialect bvlc

The weights come out as they went in, bit for bit; trained further in torch, as they are now.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from caffe_compat import Net
from converters.pt_file import load_pt
from converters.translate import translate, write_translated
from converters.translation_rules import RULES
from prototxt.dialects import DIALECTS
from prototxt.errors import CaffeError


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
    blobs = {name: [blob.data for blob in blobs] for name, blobs in net.params.items()}
    target = dialect or net.dialect
    own = [blobs.get(layer.name, []) for layer in source.layer]
    if target != net.dialect and target in RULES:
        source, own = translate(source, blobs, target)
    return write_translated(source, own, target, output, force=force)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m converters.torch2caffe",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", help="a .pt file made by converters.caffe2torch")
    parser.add_argument("--output", metavar="STEM", help="the new files' name without ending (default: the .pt's)")
    parser.add_argument("--dialect", choices=DIALECTS, help="whose Caffe shall read them (default: the net's)")
    parser.add_argument("--force", action="store_true", help="replace existing files")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    try:
        written = to_caffe(load_pt(args.file), args.output or Path(args.file).stem, args.dialect, force=args.force)
    except CaffeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\n".join(f"wrote {path}" for path in written))
    return 0


if __name__ == "__main__":
    sys.exit(main())
