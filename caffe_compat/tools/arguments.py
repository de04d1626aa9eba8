"""What several commands understand on their command lines."""

from __future__ import annotations

import argparse
import logging
import re
from collections.abc import Sequence

import torch

from caffe_compat.device import set_device, set_mode_gpu
from caffe_compat.net import Net
from caffe_compat.paths import Paths, parse_root
from prototxt.caffe_pb2 import TEST, TRAIN
from prototxt.dialects import DIALECTS
from prototxt.errors import CaffeError, nearest
from prototxt.net_file import find_net

log = logging.getLogger(__name__)

_PHASES = {"TRAIN": TRAIN, "TEST": TEST}
_FLAG = re.compile(r"--?([A-Za-z][\w-]+)(=.*)?", re.DOTALL)


def spelled_out(words: Sequence[str], parser: argparse.ArgumentParser) -> list[str]:
    """Words as gflags takes them, with every flag as the parser knows it: two dashes, underscores.

    A flag that the parser does not know ends the program with its error, before anything else can be wrong.
    """
    known = parser._option_string_actions
    result = list(words)
    for i, word in enumerate(words):
        if word == "--":
            break
        if match := _FLAG.fullmatch(word):
            name = "--" + match[1].replace("-", "_")
            result[i] = name + (match[2] or "")
            if name not in known:
                parser.error(f"unknown flag {word.partition('=')[0]}; {nearest(name, known) or 'see --help'}")
    return result


# ---- types


def image_size(text: str) -> tuple[int, int]:
    """``HEIGHTxWIDTH`` as a pair."""
    try:
        height, width = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}; expected HEIGHTxWIDTH, e.g. 360x480") from None
    if height < 1 or width < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; expected sizes of at least 1")
    return height, width


def input_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """``NAME=N,C,H,W`` as a name and a shape."""
    name, equals, dims = text.rpartition("=")
    try:
        shape = tuple(int(dim) for dim in dims.split(","))
    except ValueError:
        shape = ()
    if not (name and equals and shape) or min(shape) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a blob and its shape, e.g. data=1,3,360,480")
    return name, shape


def root(text: str) -> tuple[str, str]:
    """``OLD=NEW`` as a pair."""
    try:
        return parse_root(text)
    except CaffeError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def count(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a whole number of at least 1")
    return int(text)


def byte_count(text: str) -> int:
    """``4GB``, ``500MB`` or a number of bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMG]?)i?B?", text.strip(), re.IGNORECASE)
    if not match or float(match[1]) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a size such as 4GB or 500MB")
    return int(float(match[1]) * 1000 ** " KMG".index(match[2].upper() or " "))


def names(text: str) -> list[str]:
    """Names with commas between."""
    return text.split(",")


def gpus(text: str) -> list[int]:
    """``0``, ``0,1`` or ``all``; -1 for none."""
    if text == "all":
        return list(range(max(1, torch.cuda.device_count())))  # 0 where there is none, which is an error later on
    try:
        return [number for number in map(int, names(text)) if number >= 0]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a number, several with commas between, or all") from None


# ---- arguments


def add_switch(parser: argparse.ArgumentParser, name: str, text: str) -> None:
    """A flag that is on or off, in the spellings of gflags: ``--x``, ``--x=true``, ``--nox``, ``--x=false``."""
    parser.add_argument(f"--{name}", action="store_true", help=text)
    on, off = ([f"--{name}={value}" for value in values] for values in (("true", "1"), ("false", "0")))
    parser.add_argument(*on, dest=name, action="store_true", help=argparse.SUPPRESS)
    parser.add_argument(f"--no{name}", *off, dest=name, action="store_false", default=False, help=argparse.SUPPRESS)


def add_root(parser: argparse.ArgumentParser) -> None:
    """``--root``."""
    parser.add_argument(
        "--root", type=root, action="append", default=[], metavar="OLD=NEW",
        help="look for files under NEW that are named under OLD (may be repeated)",
    )  # fmt: skip


def add_dialect(parser: argparse.ArgumentParser) -> None:
    """``--dialect``."""
    parser.add_argument("--dialect", choices=DIALECTS, help="whose Caffe to follow (default: what the file gives away)")


def add_gpu(parser: argparse.ArgumentParser) -> None:
    """``--gpu``."""
    parser.add_argument("--gpu", type=gpus, default=[], metavar="N", help="the GPU to run on (default: the CPU)")


def add_net(parser: argparse.ArgumentParser, phase: str, *, needs_weights: bool = False) -> None:
    """What it takes to build a net, for ``open_net``; ``phase`` is the default."""
    parser.add_argument(
        "--model", required=True, metavar="FILE", help="a net prototxt, or the name of a network shipped here"
    )
    parser.add_argument(
        "--phase", type=str.upper, choices=_PHASES, default=phase, help="the phase to build (default: %(default)s)"
    )
    parser.add_argument("--level", type=int, default=0, help="the net's level, for include and exclude rules")
    parser.add_argument("--stage", type=names, default=[], metavar="A,B", help="the net's stages, with commas between")
    default = "" if needs_weights else " (default: what the fillers give)"
    parser.add_argument(
        "--weights", required=needs_weights, metavar="FILE", help=f"a .caffemodel or .caffemodel.h5{default}"
    )
    add_gpu(parser)
    add_root(parser)
    add_dialect(parser)


# ---- what they stand for


def use_device(numbers: Sequence[int]) -> None:
    """Run on the first of these GPUs, or on the CPU. Raises NetError when it is not there."""
    for number in numbers[1:]:
        log.info("Not using GPU #%d for single-GPU function", number)
    if not numbers:
        log.info("Use CPU.")
        return
    log.info("Use GPU with device ID %d", numbers[0])
    set_mode_gpu()
    set_device(numbers[0])


def open_net(args: argparse.Namespace, size: tuple[int, int] | None = None) -> Net:
    """The net of ``add_net``'s arguments, on its device, with its weights. ``size`` is that of the images.

    Raises:
        As Net.
    """
    use_device(args.gpu)
    path = find_net(args.model)
    net = Net(
        path,
        _PHASES[args.phase],
        level=args.level,
        stages=args.stage,
        dialect=args.dialect,
        roots=args.root,
        image_size=size,
    )
    if args.weights:
        net.copy_from(Paths(path, args.root).resolve(args.weights))
    return net


def warn_of_inputs(net: Net) -> None:
    """Say that a net which is to run by itself has inputs that nobody fills."""
    if net.inputs:
        log.warning("input %s stays zero: nothing feeds it; expected a net with a data layer", ", ".join(net.inputs))
