"""The command line of `python -m segnet.timing`, and what is wrong with it."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from caffe_compat.tools.arguments import count, image_size, names
from caffe_compat.tools.plot import empty_figure
from caffe_compat.training.passes import PRECISIONS
from converters.model_files import refuse_existing
from prototxt.errors import CaffeError, nearest
from prototxt.files import check_folder
from segnet import paper
from segnet.networks import NETWORKS
from segnet.timing import contenders
from segnet.timing.measures import use_device
from segnet.timing.tables import Settings

#: Table → the networks in it.
TABLES: dict[int, Sequence[str]] = {6: tuple(paper.TABLE_6), 1: tuple(paper.TABLE_1)}
_EPILOG = """\
examples:
  python -m segnet.timing                       both tables of the paper; takes long on a CPU
  python -m segnet.timing --networks segnet --table 6 --per-layer
  python -m segnet.timing --device cuda --markdown --json timing.json
  python -m segnet.timing --against plain,onnxruntime,opencv
  python -m segnet.timing --scaling scaling.png
"""


def parser() -> argparse.ArgumentParser:
    """What the command understands."""
    made = argparse.ArgumentParser(
        prog="python -m segnet.timing",
        description="Measure the paper's tables 1 and 6 on this machine; each measurement has a process of its own.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    mode = made.add_mutually_exclusive_group()
    mode.add_argument("--table", type=int, choices=TABLES, help="one of the tables alone")
    mode.add_argument(
        "--against", type=names, metavar="A,B", help=f"other programs beside the net: {', '.join(_others())}"
    )
    mode.add_argument(
        "--scaling", nargs="?", const=Path("scaling.png"), type=Path, metavar="PICTURE",
        help="time and memory over image sizes and batches, and a picture of them (default: scaling.png)",
    )  # fmt: skip
    made.add_argument(
        "--networks",
        type=names,
        metavar="A,B",
        help="of segnet.networks; by default those of the table, and segnet and segnet_basic for the other two ways",
    )
    made.add_argument(
        "--size", type=image_size, default=(360, 480), metavar="HxW", help="of the images (default: 360x480)"
    )
    made.add_argument("--classes", type=count, default=11, metavar="N", help="default: 11")
    made.add_argument("--batch", type=count, default=1, metavar="N", help="images in a pass (default: 1)")
    made.add_argument(
        "--training-batch", type=count, metavar="N", help="in table 6, for the memory of a training (default: 4)"
    )
    made.add_argument(
        "--iterations", type=count, metavar="N",
        help="timed passes (default: 10 for table 6, 50 for table 1, 7 turns, 5 for --scaling)",
    )  # fmt: skip
    made.add_argument("--warm-up", type=count, metavar="N", help="unmeasured passes before (default: 1; 3 on a GPU)")
    made.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    made.add_argument("--precision", choices=PRECISIONS, default="fp32", help="default: fp32")
    way = made.add_mutually_exclusive_group()
    way.add_argument("--faithful", dest="engine", action="store_false", help="time the net itself (the default)")
    way.add_argument("--engine", action="store_true", help="time its engine, which has no backward")
    made.set_defaults(engine=False)
    made.add_argument("--per-layer", action="store_true", help="a table of each layer's share too")
    made.add_argument("--weights", metavar="FILE", help="with --against and one network: its caffemodel")
    made.add_argument("--sizes", type=_sizes, metavar="HxW,…", help="with --scaling; each for one batch of --batch")
    made.add_argument("--batches", type=_counts, metavar="N,…", help="with --scaling; each at --size")
    made.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    made.add_argument("--json", type=Path, metavar="FILE", help="write every sample as JSON too")
    made.add_argument("--force", action="store_true", help="replace existing files")
    return made


def check(args: argparse.Namespace) -> Settings:
    """What was asked for, looked at before anything takes time.

    Raises:
        CaffeError: an unknown network or contender, options that do not go together, no GPU, no matplotlib,
            files that are there already; with everything that can be told together.
    """
    problems = _unknown("network", args.networks, _possible_networks(args))
    problems += _unknown("contender", args.against, _others())
    if args.per_layer and (args.engine or args.precision != "fp32" or args.against or args.scaling):
        problems.append("--per-layer times the layers of the faithful net in fp32; expected it with the tables, alone")
    if args.engine and args.against:
        problems.append("--engine: the engine is a contender of --against by itself; expected one of the two")
    if args.warm_up and args.against:
        problems.append("--warm-up: before its turns each contender of --against runs twice; expected one of the two")
    for option, mode in (("weights", "against"), ("sizes", "scaling"), ("batches", "scaling")):
        if getattr(args, option) and not getattr(args, mode):
            problems.append(f"--{option} is for --{mode}; expected both, or neither")
    if args.training_batch and (args.table == 1 or args.against or args.scaling):
        problems.append(
            "--training-batch is for table 6, where a training's memory stands; expected it with that table"
        )
    if args.weights and len(networks(args)) != 1:
        problems.append("--weights are those of one network; expected --networks NAME beside it")
    if args.device == "cuda" and not torch.cuda.is_available():
        problems.append(
            "--device cuda: torch sees no CUDA device here; expected --device cpu, or a CUDA build of torch"
        )
    if problems:
        raise CaffeError(problems)
    use_device(args.device)
    files = [path for path in (args.json, args.scaling) if path]
    for path in files:
        check_folder(path)
    refuse_existing(files, args.force)
    if args.scaling:
        empty_figure(args.scaling, (1, 1))
    return Settings(
        args.size, args.classes, args.batch, args.training_batch or Settings.training_batch, args.iterations,
        args.warm_up or (3 if args.device == "cuda" else 1), args.device, args.precision, args.engine,
    )  # fmt: skip


def networks(args: argparse.Namespace, table: int | None = None) -> Sequence[str]:
    """Those that were named, or what is measured by default."""
    return list(dict.fromkeys(args.networks)) if args.networks else TABLES[table] if table else contenders.NETWORKS


def _others() -> list[str]:
    return [name for name in contenders.CONTENDERS if name != contenders.BASE]


def _possible_networks(args: argparse.Namespace) -> Iterable[str]:
    return contenders.NETWORKS if args.against else NETWORKS


def _unknown(what: str, given: Sequence[str] | None, known: Iterable[str]) -> list[str]:
    known = list(known)
    return [
        f"{what} {name!r} is not among {', '.join(known)}" + (f"; {hint}" if (hint := nearest(name, known)) else "")
        for name in given or ()
        if name not in known
    ]


def _sizes(text: str) -> list[tuple[int, int]]:
    return [image_size(part) for part in names(text)]


def _counts(text: str) -> list[int]:
    return [count(part) for part in names(text)]
