"""The paper's tables 1 and 6, measured again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from tqdm import tqdm

from segnet import paper
from segnet.timing.figures import Figure, Table, number
from segnet.timing.jobs import Job, Layer, Outcome, Run

TABLE_1_ITERATIONS, TABLE_6_ITERATIONS = 50, 10
#: Which of the memory samples stands beside the paper's, and which are told besides.
MEMORY = {"cpu": "resident", "cuda": "driver"}
_FURTHER_MEMORY = {"cpu": (), "cuda": ("reserved", "allocated")}


@dataclass(frozen=True)
class Settings:
    """How to measure; ``Job`` says what each means."""

    size: tuple[int, int] = (360, 480)
    classes: int = 11
    batch: int = 1
    training_batch: int = 4
    """For the memory of a training."""
    iterations: int | None = None
    """By default what the protocol says."""
    warm_up: int = 1
    device: str = "cpu"
    precision: str = "fp32"
    engine: bool = False

    def job(self, measure: str, network: str, iterations: int = 1) -> Job:
        """A measurement of a network."""
        return Job(
            measure,
            network,
            *self.size,
            self.classes,
            self.batch,
            self.iterations or iterations,
            self.warm_up,
            self.device,
            self.precision,
            self.engine,
        )


class Cell(NamedTuple):
    """A figure to measure."""

    network: str
    what: str
    unit: str
    paper: float | None
    job: Job | None
    """None where there is nothing to measure."""
    sample: str = ""
    """Which of the outcome's."""


def table_1(networks: Iterable[str], settings: Settings) -> list[Cell]:
    """Parameters, and forward of one image."""
    cells = []
    for name in networks:
        row = paper.TABLE_1.get(name)
        cells += [
            Cell(name, "parameters", "M", row and row.parameters, _model(settings, name), "parameters"),
            Cell(
                name,
                "forward",
                "ms",
                row and row.forward,
                settings.job("inference", name, TABLE_1_ITERATIONS),
                "forward",
            ),
        ]
    return cells


def table_6(networks: Iterable[str], settings: Settings) -> list[Cell]:
    """Forward and backward of the training network, forward of the one for inference, memory and the weights' size."""
    cells = []
    for name in networks:
        row = paper.TABLE_6.get(name)
        passes = None if settings.engine else settings.job("training_passes", name, TABLE_6_ITERATIONS)
        alone = settings.job("inference", name, TABLE_6_ITERATIONS)
        cells += [
            *([Cell(name, "forward", "ms", row and row.forward, passes, "forward")] if passes else []),
            Cell(name, "backward", "ms", row and row.backward, passes, "backward"),
            Cell(name, "forward, for inference", "ms", row and row.forward, alone, "forward"),
            *_memory(settings, name, "training", row and row.training_memory),
            *_memory(settings, name, "inference", row and row.inference_memory),
            Cell(name, "caffemodel", "MB", row and row.model, _model(settings, name), "size"),
        ]
    return cells


def measure(jobs: Iterable[Job | None], run: Run) -> tuple[dict[Job, Outcome], bool]:
    """Run each job once. Returns what came out, and whether that is all: Ctrl-C ends it with what is known by then."""
    known: dict[Job, Outcome] = {}
    with tqdm([job for job in dict.fromkeys(jobs) if job], desc="measuring", disable=None) as progress:
        try:
            for job in progress:
                progress.set_postfix_str(f"{job.network} {job.measure}")
                known[job] = run(job)
        except KeyboardInterrupt:
            return known, False
    return known, True


def figures(cells: Iterable[Cell], known: Mapping[Job, Outcome]) -> list[Figure]:
    """What came out; a job that is not ``known`` was not measured."""
    found = []
    for cell in cells:
        outcome = known.get(cell.job, Outcome()) if cell.job else Outcome()
        samples = outcome.samples.get(cell.sample, ())
        found.append(
            Figure(cell.network, cell.what, cell.unit, samples, cell.paper, outcome.problem, outcome.too_large)
        )
    return found


def layer_table(network: str, layers: Sequence[Layer]) -> Table:
    """Each layer's time, and its share of the pass."""
    totals = [sum(layer.forward for layer in layers), sum(layer.backward for layer in layers)]
    rows = []
    for layer in layers:
        row = [layer.name, layer.type]
        for taken, total in zip((layer.forward, layer.backward), totals, strict=True):
            row += [number(taken), f"{taken / total:.1%}" if total else ""]
        rows.append(row)
    headers = ["layer", "type", "forward, ms", "share", "backward, ms", "share"]
    records = [{"network": network, **vars(layer)} for layer in layers]
    return Table(f"Layers of {network}", headers, rows, records)


def _model(settings: Settings, network: str) -> Job:
    """The same job for every way to run, as weights have no device and no precision."""
    return Settings(settings.size, settings.classes).job("model", network)


def _memory(settings: Settings, network: str, mode: str, told: float | None) -> list[Cell]:
    """Of a training or of inference, at its batch; two passes, as the first one leaves gradients behind."""
    batch = settings.training_batch if mode == "training" else settings.batch
    plain = replace(settings, batch=batch, iterations=1, warm_up=1)
    job = None if settings.engine and mode == "training" else plain.job(f"{mode}_memory", network)
    what = f"{mode} memory, batch {batch}"
    return [
        Cell(network, what, "MiB", told, job, MEMORY[settings.device]),
        *(Cell(network, f"{what}, {one}", "MiB", None, job, one) for one in _FURTHER_MEMORY[settings.device]),
    ]
