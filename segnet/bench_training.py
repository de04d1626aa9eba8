"""Benchmark: one training step by the solver against plain PyTorch, and the peak memory of each.

Each way of training has a process of its own, as it would have in use: what one leaves in the heap speeds the other up.
It takes turns with plain PyTorch in another process, the one waiting while the other trains.

python -m segnet.bench_training [--network segnet_basic] [--batch 1] [--size 360x480] [--rounds 7] [--ways solver]
"""

from __future__ import annotations

import argparse
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import torch
import torch.nn.functional as F
from tabulate import tabulate
from tqdm import tqdm

from caffe_compat import Solver
from caffe_compat.tools.arguments import count, image_size, names
from prototxt.caffe_pb2 import SolverParameter
from prototxt.turns import ratio
from segnet.by_hand import fed_by_hand
from segnet.networks import Training, segnet, segnet_basic
from segnet.plain import PlainSegNet, PlainSegNetBasic

_NETWORKS = {"segnet": (segnet, PlainSegNet), "segnet_basic": (segnet_basic, PlainSegNetBasic)}
_PLAIN = "plain PyTorch"
#: What the solver is asked for.
WAYS: dict[str, dict[str, object]] = {
    "solver": {},
    "checkpointing": {"checkpointing": True},
    "channels_last": {"channels_last": True},
    "channels_last+bf16": {"channels_last": True, "precision": "bf16"},
}
_SETTINGS = dict(base_lr=0.001, momentum=0.9, weight_decay=0.0005)


def step_of(way: str, network: str, batch: int, size: tuple[int, int]) -> Callable[[], None]:
    """A function that trains for one step on random images and labels."""
    torch.manual_seed(0)
    images, labels = torch.rand(batch, 3, *size) * 255, torch.randint(0, 11, (batch, 1, *size))
    if way == _PLAIN:
        return _plain_step(_NETWORKS[network][1]().train(), images, labels[:, 0])
    net = fed_by_hand(_NETWORKS[network][0](*size, training=Training(batch_size=batch)), size)
    param = SolverParameter(net_param=net, lr_policy="fixed", **_SETTINGS)
    solver = Solver(param, dialect="segnet", **WAYS[way])
    solver.net.blobs["data"].data[...] = images.numpy()
    solver.net.blobs["label"].data[...] = labels.numpy()
    return lambda: solver.step(1)


def _plain_step(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> Callable[[], None]:
    optimiser = torch.optim.SGD(model.parameters(), _SETTINGS["base_lr"], 0.9, weight_decay=0.0005)

    def step() -> None:
        optimiser.zero_grad()
        F.cross_entropy(model(images), labels, ignore_index=11).backward()
        optimiser.step()

    return step


class _Trainer:
    """A process that trains in one way, a step at a time."""

    def __init__(self, pipe: Connection, way: str) -> None:
        self._pipe, self._way = pipe, way

    def step(self) -> float:
        """Train for a step. Returns how long it took, in seconds."""
        return self._ask(True)

    def peak(self) -> float:
        """The most memory that steps took beyond the model, in MiB; the last question to it."""
        return self._ask(False)

    def _ask(self, for_step: bool) -> float:
        try:
            self._pipe.send(for_step)
            return self._pipe.recv()
        except (EOFError, OSError):
            raise SystemExit(
                f"error: the process that trains by {self._way!r} ended; its own message, if any, stands above, and "
                "without one memory ran out: ask for a smaller --size or --batch"
            ) from None


@contextmanager
def _trainer(way: str, network: str, batch: int, size: tuple[int, int]) -> Iterator[_Trainer]:
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_train, args=(theirs, way, network, batch, size), daemon=True)
    process.start()
    theirs.close()  # so that its end is noticed
    try:
        yield _Trainer(ours, way)
    finally:
        process.terminate()
        process.join()


def _train(pipe: Connection, way: str, network: str, batch: int, size: tuple[int, int]) -> None:
    """What that process does."""
    logging.disable(logging.WARNING)
    step = step_of(way, network, batch, size)
    before = _resident("VmHWM")
    while pipe.recv():
        start = time.perf_counter()
        step()
        pipe.send(time.perf_counter() - start)
    pipe.send((_resident("VmHWM") - before) / 1024)


def _resident(field: str) -> float:
    """A line of this process's status, in KiB; NaN where the system has none."""
    status = Path("/proc/self/status")
    if not status.exists():
        return math.nan
    return float(next(line.split()[1] for line in status.read_text().splitlines() if line.startswith(field)))


def _held_against_plain(way: str, args: argparse.Namespace) -> list[str]:
    """A row: the ratio of the medians, the least and the greatest of a turn, and the memory of both."""
    shape = (args.network, args.batch, args.size)
    with _trainer(_PLAIN, *shape) as plain, _trainer(way, *shape) as other:
        both = (other, plain)
        for one in (*both, *both):  # the first step makes the history, the second finds the heap as it stays
            one.step()
        turns = [[one.step() for one in both] for _ in tqdm(range(args.rounds), desc=way, disable=None)]
        middle, low, high = ratio(*(list(taken) for taken in zip(*turns, strict=True)))
        return [way, f"{middle:.2f} ({low:.2f}–{high:.2f})", *(f"{one.peak():.0f} MiB" for one in both)]


def _ways(text: str) -> list[str]:
    given = names(text)
    if unknown := [name for name in given if name not in WAYS]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}; expected of {', '.join(WAYS)}")
    return given


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    logging.disable(logging.WARNING)
    parser = argparse.ArgumentParser(prog="python -m segnet.bench_training", description=__doc__.split("\n")[0])
    parser.add_argument("--network", choices=tuple(_NETWORKS), default="segnet_basic")
    parser.add_argument("--batch", type=count, default=1, metavar="N", help="images in a step (default: 1)")
    parser.add_argument("--size", type=image_size, default=(360, 480), metavar="HxW", help="default: 360x480")
    parser.add_argument("--rounds", type=count, default=7, metavar="N", help="timed steps of each side (default: 7)")
    parser.add_argument(
        "--ways", type=_ways, default=tuple(WAYS), metavar="A,B", help=f"by default all: {','.join(WAYS)}"
    )
    args = parser.parse_args(arguments)
    rows = [_held_against_plain(way, args) for way in args.ways]
    height, width = args.size
    print(f"{args.network}, one step on {args.batch}×3×{height}×{width}, CPU, {torch.get_num_threads()} threads")
    print(tabulate(rows, ["", "of plain PyTorch's time", "peak beyond the model", "plain PyTorch's"]))


if __name__ == "__main__":
    main()
