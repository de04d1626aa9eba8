"""The same network in several programs, in turns in one process: how long each takes beside the faithful net."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike

import numpy as np
import torch

from caffe_compat import TEST, Net
from caffe_compat.device import chosen_device
from prototxt.errors import CaffeError
from prototxt.turns import ratio, take_turns
from segnet import networks
from segnet.timing.contenders import BASE, CONTENDERS, Scene, Scores
from segnet.timing.figures import NOTHING, Table, number
from segnet.timing.measures import use_device
from segnet.timing.tables import Settings

ROUNDS = 7
_HEADERS = ["network", "contender", "median, ms", "of the net's", "turn by turn", "labels the same"]


@dataclass(frozen=True)
class Turns:
    """What one contender took."""

    contender: str
    seconds: Sequence[float] = ()
    """Of each turn; none where it could not run."""
    agreement: float | None = None
    """The share of labels that are the net's."""
    problem: str = ""
    """Why it could not run."""


def compare(
    network: str, contenders: Sequence[str], settings: Settings, weights: str | PathLike[str] | None = None
) -> list[Turns]:
    """Let contenders take turns, the net among them.

    Args:
        network: one that every contender can have.
        contenders: of ``CONTENDERS``.
        settings: size, classes, batch, device, rounds (``iterations``), and the engine's precision.
        weights: a caffemodel with the statistics merged in; without one they are what the fillers give.

    Returns what each took, the net first.

    Raises:
        CaffeError: the weights do not fit, or the net cannot be built; what does not fit into memory has its own errors
            (``is_want_of_memory``).
    """
    use_device(settings.device)
    scene = _scene(network, settings, weights)
    runs: dict[str, Scores] = {}
    problems: dict[str, str] = {}
    with torch.no_grad():
        for name in dict.fromkeys([BASE, *contenders]):
            try:
                runs[name] = CONTENDERS[name](scene)
            except CaffeError as error:
                problems[name] = str(error)
        labels = {name: _labels(run()) for name, run in runs.items()}
        seconds = take_turns(
            {name: _waited_for(run, scene.images) for name, run in runs.items()}, settings.iterations or ROUNDS
        )
    took = [Turns(name, seconds[name], float((labels[name] == labels[BASE]).mean())) for name in runs]
    return took + [Turns(name, problem=problem) for name, problem in problems.items()]


def table(title: str, network: str, took: Sequence[Turns]) -> Table:
    """The ratios of the medians, with the least and the greatest of a turn."""
    base = next((one for one in took if one.contender == BASE), Turns(BASE))
    rows, records = [], []
    for one in took:
        record: dict[str, object] = {"network": network, "contender": one.contender, "seconds": list(one.seconds)}
        row = [network, one.contender, NOTHING, NOTHING, "", NOTHING]
        if one.seconds:
            middle, low, high = ratio(list(one.seconds), list(base.seconds))
            record |= {"ratio": middle, "least ratio": low, "greatest ratio": high}
            median = number(1000 * statistics.median(one.seconds))
            row[2:] = [median, f"{middle:.2f}", f"{low:.2f} to {high:.2f}", f"{one.agreement:.4%}"]
        rows.append(row)
        records.append(record | {"agreement": one.agreement, "problem": one.problem})
    notes = [f"{one.contender}: {one.problem}" for one in took if one.problem]
    return Table(title, _HEADERS, rows, records, notes)


def _scene(network: str, settings: Settings, weights: str | PathLike[str] | None) -> Scene:
    message = networks.NETWORKS[network](*settings.size, settings.classes, batch_size=settings.batch)
    net = Net(message, TEST, weights=weights)
    images = (torch.rand(settings.batch, 3, *settings.size) * 255).to(chosen_device())
    return Scene(network, net, images, settings.precision)


def _labels(scores: torch.Tensor | np.ndarray) -> np.ndarray:
    return torch.as_tensor(scores).argmax(1).cpu().numpy()


def _waited_for(run: Scores, images: torch.Tensor) -> Callable[[], object]:
    """The same, back when all is done."""
    if images.device.type == "cpu":
        return run

    def waiting() -> None:
        run()
        torch.cuda.synchronize()

    return waiting
