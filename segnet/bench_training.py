"""Benchmark: one training step by the solver against plain PyTorch, in turns, and the peak memory of each.

python -m segnet.bench_training [--network segnet_basic] [--batch 1] [--size 360x480] [--rounds 7]
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F
from tabulate import tabulate
from tqdm import tqdm

from caffe_compat import Solver
from caffe_compat.tools.arguments import count, image_size
from prototxt.bench_read import peak_bytes
from prototxt.caffe_pb2 import SolverParameter
from prototxt.turns import ratio, take_turns
from segnet.by_hand import fed_by_hand
from segnet.networks import Training, segnet, segnet_basic
from segnet.plain import PlainSegNet, PlainSegNetBasic

_NETWORKS = {"segnet": (segnet, PlainSegNet), "segnet_basic": (segnet_basic, PlainSegNetBasic)}
_PLAIN = "plain PyTorch"
#: What the solver is asked for.
WAYS: dict[str, dict[str, object]] = {
    "solver": {},
    "solver, checkpointing": {"checkpointing": True},
    "solver, channels last": {"channels_last": True},
    "solver, channels last, bf16": {"channels_last": True, "precision": "bf16"},
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


_TWO_STEPS = """
import logging
logging.disable(logging.WARNING)
from segnet.bench_training import step_of
step = step_of({way!r}, {network!r}, {batch}, {size})
"""


def _peak(way: str, args: argparse.Namespace) -> int:
    """Bytes that two steps take beyond the model itself."""
    built = _TWO_STEPS.format(way=way, network=args.network, batch=args.batch, size=args.size)
    return peak_bytes(built + "step()\nstep()") - peak_bytes(built)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    logging.disable(logging.WARNING)
    parser = argparse.ArgumentParser(prog="python -m segnet.bench_training", description=__doc__.split("\n")[0])
    parser.add_argument("--network", choices=tuple(_NETWORKS), default="segnet_basic")
    parser.add_argument("--batch", type=count, default=1, metavar="N", help="images in a step (default: 1)")
    parser.add_argument("--size", type=image_size, default=(360, 480), metavar="HxW", help="default: 360x480")
    parser.add_argument("--rounds", type=count, default=7, metavar="N", help="timed steps of each side (default: 7)")
    parser.add_argument("--no-memory", action="store_true", help="leave the peak memory out")
    args = parser.parse_args(arguments)
    shape = (args.network, args.batch, args.size)
    seconds = take_turns({way: step_of(way, *shape) for way in (_PLAIN, *WAYS)}, args.rounds)
    with_memory = sys.platform == "linux" and not args.no_memory
    peaks = {way: _peak(way, args) for way in tqdm(seconds, desc="memory", disable=None)} if with_memory else {}
    rows = []
    for way, taken in seconds.items():
        middle, low, high = ratio(taken, seconds[_PLAIN])
        rows.append([way, f"{middle:.2f} ({low:.2f}–{high:.2f})", f"{peaks[way] / 2**20:.0f} MiB" if peaks else ""])
    height, width = args.size
    print(f"{args.network}, one step on {args.batch}×3×{height}×{width}, CPU, {torch.get_num_threads()} threads")
    print(tabulate(rows, ["", "of plain PyTorch's time", "peak beyond the model"]))


if __name__ == "__main__":
    main()
