"""Train a model, or finetune one.

The solver's file says everything: the nets, the rates, when to test and to snapshot. Ctrl-C writes a snapshot and
stops; SIGHUP writes one and goes on. Every label is looked at before the first step.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from tqdm import tqdm

from caffe_compat.errors import SolverError
from caffe_compat.tools.arguments import add_dialect, add_gpu, add_root, add_switch, byte_count, names, use_device
from caffe_compat.tools.log_tables import parse_log
from caffe_compat.tools.plot import plot_tables
from caffe_compat.training.by_type import get_solver
from caffe_compat.training.labels import check_labels
from caffe_compat.training.passes import PRECISIONS
from caffe_compat.training.report import CaffeFormatter, number
from caffe_compat.training.solver import SNAPSHOT, STOP, Solver
from prototxt.caffe_pb2 import SolverParameter
from prototxt.net_file import read_solver

log = logging.getLogger("caffe_compat.training")

_EFFECTS = ("snapshot", "stop", "none")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to train, and from where."""
    parser.add_argument("--solver", required=True, metavar="FILE", help="the solver prototxt")
    parser.add_argument(
        "--weights", type=names, default=[], metavar="A,B", help="weights to begin with, files with commas between"
    )
    parser.add_argument("--snapshot", metavar="FILE", help="a .solverstate to go on from")
    parser.add_argument("--sigint_effect", choices=_EFFECTS, default="stop", help="of Ctrl-C (default: stop)")
    parser.add_argument("--sighup_effect", choices=_EFFECTS, default="snapshot", help="of SIGHUP (default: snapshot)")
    parser.add_argument(
        "--plot", metavar="PNG", help="draw losses and accuracies, anew at each snapshot and at the end"
    )
    add_switch(parser, "trust_labels", "do not look at the labels before the first step")
    add_switch(parser, "accumulate", "with iter_size, add up BN's gradients too, which Caffe overwrites")
    parser.add_argument(
        "--precision", choices=tuple(PRECISIONS), default="fp32", help="of convolutions and products (default: fp32)"
    )
    add_switch(parser, "channels_last", "lay images out with the channels innermost: faster")
    add_switch(parser, "checkpointing", "compute blobs anew for the backward pass: less memory, a third more time")
    parser.add_argument(
        "--fit_memory",
        type=byte_count,
        metavar="SIZE",
        help="bytes it may take, e.g. 4GB: smaller, more batches",
    )
    add_gpu(parser)
    add_root(parser)
    add_dialect(parser)


def run(args: argparse.Namespace) -> int:
    """Train."""
    if len(args.gpu) > 1 and "WORLD_SIZE" not in os.environ:
        return _as_team(args.gpu)
    if args.snapshot and args.weights:
        raise SolverError("--snapshot and --weights are both given; expected one: a snapshot brings its weights along")
    with _curves(args.plot) as draw:
        draw()  # what stands against it is an error now, and not after the training
        _choose_device(args.gpu, read_solver(args.solver))
        solver = get_solver(
            args.solver,
            dialect=args.dialect,
            roots=args.root,
            accumulate=args.accumulate,
            precision=args.precision,
            channels_last=args.channels_last,
            checkpointing=args.checkpointing,
            fit_memory=args.fit_memory,
        )
        log.info("Starting Optimization")
        for weights in args.weights:
            log.info("Finetuning from %s", weights)
            solver.load(weights)
        if not args.trust_labels and solver.team.is_first:
            check_labels(solver.net)
        solver.after_iteration(lambda s: draw() if s.param.snapshot and s.iter % s.param.snapshot == 0 else None)
        with _signals(solver, args.sigint_effect, args.sighup_effect), _progress(solver):
            solver.solve(args.snapshot)
        draw()
        solver.team.leave()
    return 0


def _as_team(gpus: list[int]) -> int:
    """The same command once for each GPU, under torchrun. Returns its exit status."""
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={len(gpus)}"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ",".join(map(str, gpus))}
    return subprocess.run([*words, "-m", "caffe_compat", *sys.argv[1:]], env=environment, check=False).returncode


def _choose_device(given: list[int], param: SolverParameter) -> None:
    """The GPUs of the command line, else what the solver's file says; the CPU where there is no GPU."""
    if "LOCAL_RANK" in os.environ and torch.cuda.is_available():  # torchrun's: one GPU for each process
        given = [int(os.environ["LOCAL_RANK"])]
    wanted = given or ([param.device_id] if param.solver_mode == SolverParameter.GPU else [])
    if wanted and not given and not torch.cuda.is_available():
        log.warning("the solver asks for a GPU (`solver_mode`), which torch does not see here; training on the CPU")
        wanted = []
    use_device(wanted)


@contextmanager
def _signals(solver: Solver, on_interrupt: str, on_hangup: str) -> Iterator[None]:
    """Let signals wait for the end of the iteration, and then do what they are to do."""
    wishes: set[str] = set()
    effects = {signal.SIGINT: on_interrupt, signal.SIGHUP: on_hangup}

    def take(number: int, _: object) -> None:
        effect = effects[signal.Signals(number)]
        if effect == STOP and STOP in wishes:
            raise KeyboardInterrupt
        wishes.add(effect)
        log.info("%s: %s after this iteration", signal.Signals(number).name, effect)

    def tell(_: Solver) -> str | None:
        wish = STOP if STOP in wishes else SNAPSHOT if SNAPSHOT in wishes else None
        wishes.clear()
        return wish

    solver.after_iteration(tell)
    before = {number: signal.signal(number, take) for number in effects}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _progress(solver: Solver) -> Iterator[None]:
    """On a terminal: how far it is, the loss, the rate, the time left."""
    with tqdm(total=solver.param.max_iter, unit="iter", disable=None if solver.team.is_first else True) as bar:

        def show(trained: Solver) -> None:
            bar.set_postfix(loss=number(trained.loss), lr=number(trained.lr), refresh=False)
            bar.update(trained.iter - bar.n)

        solver.after_iteration(show)
        yield


class _Lines(logging.Handler):
    """Keeps what the curves are drawn from."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(CaffeFormatter())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self.lines.append(self.format(record))


@contextmanager
def _curves(path: str | None) -> Iterator[Callable[[], None]]:
    """Gives a function that draws the training so far, where a picture is wanted."""
    kept = _Lines()

    def draw() -> None:
        if path:
            plot_tables(parse_log(kept.lines), path)

    log.addHandler(kept)
    try:
        yield draw
    finally:
        log.removeHandler(kept)
