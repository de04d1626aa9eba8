"""Solvers: the training loop of Caffe, under pycaffe's names (Caffe: solver.cpp, sgd_solver.cpp)."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from os import PathLike
from typing import ClassVar

import numpy as np
import torch

from caffe_compat.data_layer import DataLayer
from caffe_compat.device import chosen_device, set_random_seed, warn_of_slow
from caffe_compat.errors import SolverError
from caffe_compat.heap import keep_freed
from caffe_compat.paths import Paths
from caffe_compat.training import memory, nets, rates, snapshots
from caffe_compat.training.learnable import clip, learnables, pieces, regularise, subtract
from caffe_compat.training.loss_scale import LossScale
from caffe_compat.training.passes import make_pass
from caffe_compat.training.report import Pace, log, number, output_lines, tell_updates, values_of
from caffe_compat.training.rules import find_rule
from caffe_compat.training.settings import problems_of, read_settings
from caffe_compat.training.team import Team
from caffe_compat.training.watch import check_gradients, check_loss
from prototxt.caffe_pb2 import SolverParameter
from prototxt.upgrade import upgrade_solver

#: What a callback may ask for after an iteration.
STOP, SNAPSHOT = "stop", "snapshot"


class Solver:
    """A training, from a solver prototxt.

    Args:
        solver: the file, or its message.
        dialect: whose Caffe to follow; by default what the files give away, else "segnet".
        roots: pairs ``(old, new)`` of path prefixes, for files that the prototxts name and that lie elsewhere.
        accumulate: with ``iter_size`` above 1, add up BN's gradients too. Caffe's BN overwrites them, so that only the
            last of the passes counts; that is the default here as well.
        precision, channels_last, checkpointing: ways to save time and memory, which give up the blobs inside the net
            (see ``passes.make_pass``). The defaults are Caffe's numbers.
        fit_memory: bytes that the training may take by estimate. Where the written batch takes more, a smaller one is
            read and ``iter_size`` raised, so that as many items make a step.

    Raises:
        SolverError: with everything that is wrong with the solver; FormatError, MissingFileError, NetError: as Net.
    """

    type: ClassVar[str | None] = None
    """The rule that a subclass stands for, whatever the file says."""

    def __init__(
        self,
        solver: str | PathLike[str] | SolverParameter,
        *,
        dialect: str | None = None,
        roots: Sequence[tuple[str, str]] = (),
        accumulate: bool = False,
        precision: str = "fp32",
        channels_last: bool = False,
        checkpointing: bool = False,
        fit_memory: int | None = None,
    ) -> None:
        self._path, written = read_settings(solver)
        self.param = param = upgrade_solver(written)
        if self.type is not None:
            param.type = self.type
        train, tests, problems = nets.sources(param)
        self._refuse(problems + problems_of(param))
        self.rule = find_rule(param.type)(param)
        self._paths = Paths(self._path, roots)
        opened = [nets.open_file(one, written, self._path, dialect=dialect, roots=roots) for one in (train, *tests)]
        if fit_memory is not None:
            lean = precision != "fp32" or channels_last
            need = nets.memory_need(train, opened[0], self.rule.histories, roots, lean, checkpointing)
            param.iter_size = memory.fit(opened[0].message, param.iter_size, need, fit_memory)
        self.team = Team()
        seed = param.random_seed if param.random_seed >= 0 else None
        if self.team.size > 1:  # one order of the data for all
            seed = self.team.same(int(torch.randint(2**31, ())) if seed is None else seed)
        if seed is not None:
            set_random_seed(seed)
        self.net, *self.test_nets = (nets.build(*pair, roots) for pair in zip((train, *tests), opened, strict=True))
        for weights in param.weights:
            self.load(weights)
        for net in self.test_nets:
            net.keeps_graph = False
            net.share_with(self.net)
        if accumulate:
            for layer in self.net.layers:
                layer.overwrites_param_diffs = False
        self._join_team(seed)
        self.loss_scale = LossScale() if precision == "fp16" else None
        warn_of_slow(precision, (chosen_device() or torch.device("cpu")).type, channels_last)
        self._pass = make_pass(precision, channels_last, checkpointing, self.loss_scale)
        self.iter = 0
        self.current_step = 0
        self._learnables = learnables(self.net)
        self._histories: list[list[torch.Tensor]] = []
        self._losses: deque[float] = deque(maxlen=max(1, param.average_loss))
        self._on_start: list[Callable[[], None]] = []
        self._on_gradients: list[Callable[[], None]] = []
        self._after: list[Callable[[Solver], str | None]] = []
        self._pace = Pace(param.display)
        self._keeps_freed = not checkpointing and fit_memory is None
        self.stopped_early = False

    def _join_team(self, seed: int | None) -> None:
        """Take over the first process's weights, and a part of the data."""
        if self.team.size == 1:
            return
        self.team.take_over(p.blob.data_tensor() for p in learnables(self.net) if p.owner is None)
        for layer in self.net.layers:
            if isinstance(layer, DataLayer):
                layer.share(self.team.rank, self.team.size)
        set_random_seed(seed + self.team.rank)  # from here on: what Dropout leaves out

    def _refuse(self, problems: Sequence[str]) -> None:
        if problems:
            raise SolverError([f"{self._path or 'solver'}: {problem}" for problem in problems])

    # ---- what pycaffe's solvers offer

    @property
    def lr(self) -> float:
        """The learning rate of the iteration to come."""
        return rates.learning_rate(self.param, self.iter, rates.next_step(self.param, self.iter, self.current_step))

    @property
    def loss(self) -> float:
        """The mean of the last ``average_loss`` losses; NaN before the first."""
        return sum(self._losses) / len(self._losses) if self._losses else math.nan

    def load(self, weights: str) -> None:
        """Take weights by layer name, from one file or from several with commas between. Raises as Net.copy_from."""
        for name in weights.split(","):
            self.net.copy_from(self._paths.resolve(name.strip()))

    def add_callback(self, on_start: Callable[[], None], on_gradients_ready: Callable[[], None]) -> None:
        """Call back at the start of every iteration, and when its gradients are there."""
        self._on_start.append(on_start)
        self._on_gradients.append(on_gradients_ready)

    def after_iteration(self, callback: Callable[[Solver], str | None]) -> None:
        """Call back after every iteration; the answer ``STOP`` ends the training, ``SNAPSHOT`` writes one."""
        self._after.append(callback)

    def step(self, iterations: int) -> None:
        """Train for a number of iterations.

        The process keeps the memory that is freed meanwhile for the iterations to come (``heap.keep_freed``), but for a
        training that is to take little: with ``checkpointing`` or ``fit_memory``.

        Raises:
            SolverError: a loss or a gradient is not finite; it names the layer and the likely cause.
        """
        if self._keeps_freed:
            keep_freed()
        end = self.iter + iterations
        self._losses.clear()
        self.stopped_early = False
        while self.iter < end and not self.stopped_early:
            self._iterate()

    def solve(self, resume_file: str | PathLike[str] | None = None) -> None:
        """Train up to ``max_iter``, from a solver state if one is given, and write the last snapshot."""
        param = self.param
        log.info("Solving %s", self.net.name)
        log.info("Learning Rate Policy: %s", param.lr_policy)
        if resume_file is not None:
            self.restore(resume_file)
        self.step(max(0, param.max_iter - self.iter))
        if param.snapshot_after_train and not (param.snapshot and self.iter % param.snapshot == 0):
            self.snapshot()
        if self.stopped_early:
            log.info("Optimization stopped early.")
            return
        if param.display and self.iter % param.display == 0:
            self._losses.append(self.net._forward(0, len(self.net.layers) - 1))
            log.info("Iteration %d, loss = %s", self.iter, number(self.loss))
        if self.team.is_first and self.test_nets and self.iter % param.test_interval == 0:
            self.test_all()
        log.info("Optimization Done.")

    def snapshot(self) -> str:
        """Write the weights and the state. Returns the state's file."""
        return snapshots.write(self)

    def restore(self, state: str | PathLike[str]) -> None:
        """Go on from a solver state and the weights that it names.

        Raises:
            FormatError, MissingFileError: of the files; SolverError, NetError: they are of another training.
        """
        snapshots.restore(self, state)

    # ---- one iteration

    def _iterate(self) -> None:
        param = self.param
        self.net.clear_param_diffs()
        if self._is_test_due():
            self.test_all()
        for callback in self._on_start:
            callback()
        shown = param.display > 0 and self.iter % param.display == 0
        self.net.debug_info = shown and param.debug_info
        loss = sum(self._pass(self.net, partial(check_loss, self)) for _ in range(param.iter_size))
        self._losses.append(loss / param.iter_size)
        if shown:
            self._show()
        for callback in self._on_gradients:
            callback()
        self.apply_update(shown)
        self.iter += 1
        wishes = {wish for wishes in self.team.all({callback(self) for callback in self._after}) for wish in wishes}
        if (param.snapshot and self.iter % param.snapshot == 0) or SNAPSHOT in wishes:
            self.snapshot()
        self.stopped_early = STOP in wishes

    @torch.no_grad()
    def apply_update(self, shown: bool = False) -> None:
        """Turn the gradients that the net holds into updates, and take them from the parameters."""
        param = self.param
        step = rates.next_step(param, self.iter, self.current_step)
        if step != self.current_step and param.lr_policy == "multistep":
            log.info("MultiStep Status: Iteration %d, step = %d", self.iter, step)
        self.current_step = step
        rate = rates.learning_rate(param, self.iter, step)
        if shown:
            log.info("Iteration %d, lr = %s", self.iter, number(rate))
        self.team.average([learnable.blob.diff_tensor() for learnable in self._learnables])
        check_gradients(self, self._learnables)
        if param.clip_gradients >= 0 and (clipped := clip(self._learnables, param.clip_gradients)):
            norm, factor = clipped
            log.info(
                "Gradient clipping: scaling down gradients (L2 norm %s > %s) by scale factor %s",
                *(number(value) for value in (norm, param.clip_gradients, factor)),
            )
        # DeconvNet's fork divides the rate instead, and with it the weight decay
        in_rate = self.net.dialect == "deconvnet"
        for learnable, history in zip(self._learnables, self.histories, strict=True):
            blob = learnable.blob
            decay = param.weight_decay * blob.decay_mult
            own_rate = rate * blob.lr_mult / (param.iter_size if in_rate else 1)
            for values, diff, *past in pieces(blob.data_tensor(), blob.diff_tensor(), *history):
                if param.iter_size > 1 and not in_rate:
                    diff.div_(param.iter_size)
                regularise(values, diff, decay, param.regularization_type)
                self.rule.update(diff, past, own_rate, self.iter)
        if self.net.debug_info:
            tell_updates(self._learnables)
        subtract(self._learnables)

    @property
    def histories(self) -> list[list[torch.Tensor]]:
        """The rule's tensors for each parameter; zeros before the first update."""
        if not self._histories:
            self._histories = [
                [torch.zeros_like(learnable.blob.diff_tensor()) for _ in range(self.rule.histories)]
                for learnable in self._learnables
            ]
        return self._histories

    # ---- tests

    def _is_test_due(self) -> bool:
        param = self.param
        due = self.team.is_first and bool(self.test_nets) and self.iter % param.test_interval == 0
        return due and (self.iter > 0 or param.test_initialization)

    def test_all(self) -> list[dict[str, np.ndarray]]:
        """Run every test net for its ``test_iter``. Returns the means of each one's outputs."""
        return [self.test(index) for index in range(len(self.test_nets))]

    def test(self, index: int = 0) -> dict[str, np.ndarray]:
        """Run one test net with the current weights for its ``test_iter``; log and return the means of its outputs."""
        log.info("Iteration %d, Testing net (#%d)", self.iter, index)
        net = self.test_nets[index]
        net.share_with(self.net)  # once more: the weights may have gone to another device since
        count = self.param.test_iter[index]
        sums: dict[str, np.ndarray] = {}
        loss = 0.0
        for _ in range(count):
            loss += net._forward(0, len(net.layers) - 1)
            for name, values in values_of(net).items():
                sums[name] = sums[name] + values if name in sums else values
        if self.param.test_compute_loss:
            log.info("Test loss: %s", number(loss / count))
        means = {name: total / count for name, total in sums.items()}
        for line in output_lines("Test", means, net.blob_loss_weights):
            log.info("%s", line)
        return means

    # ---- the log

    def _show(self) -> None:
        speed = self._pace.tell(self.iter) if self.net.dialect not in ("segnet", "deconvnet") else ""
        log.info("Iteration %d%s, loss = %s", self.iter, speed, number(self.loss))
        for line in output_lines("Train", values_of(self.net), self.net.blob_loss_weights):
            log.info("%s", line)
