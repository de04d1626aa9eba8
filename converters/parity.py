"""Hold a network against a record of what Caffe computed with it: every layer by itself, and the labels end to end.

python -m converters.parity record.npz

The record is made by converters/record.py on the machine with Caffe. The exit status is 0 where the network computes
what Caffe did, 1 where it deviates, 2 where the two cannot be compared.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from tabulate import tabulate

from caffe_compat import TEST, TRAIN, Net
from caffe_compat.errors import NetError
from converters.causes import differing_layers
from converters.comparing import Comparison
from converters.deviations import GRADIENT_TOLERANCE, LABELS, TOLERANCE, Row
from converters.record_file import Record, read_record
from prototxt.dialects import DIALECTS
from prototxt.errors import CaffeError
from prototxt.net_file import NetFile, find_net, parse_net, read_net

EQUAL, DEVIATING, NO_COMPARISON = 0, 1, 2
_SHOWN = 6


def build(
    record: Record,
    prototxt: str | PathLike[str] | None = None,
    weights: str | PathLike[str] | None = None,
    dialect: str | None = None,
) -> Net:
    """The net of a record, with inputs of the recorded shapes.

    Args:
        record: the record.
        prototxt: another prototxt than the one in the record.
        weights: the weights; by default those that the record names, at the path where they lay.
        dialect: whose Caffe recorded it (default: what the prototxt gives away).

    Raises:
        CaffeError: the weights are not found, or the net cannot be built.
    """
    if weights is None:
        weights = record.weights
        if weights is None or not Path(weights).is_file():
            raise CaffeError(f"{record.path}: its weights are not at {weights} here; give them with --weights")
    file = read_net(find_net(prototxt), dialect) if prototxt else parse_net(record.prototxt, record.path, dialect)
    shapes = {name: values.shape for name, values in record.inputs.items()}
    phase = TRAIN if record.phase == "train" else TEST
    file = _as_gradients_ask(file, record)
    try:
        return Net(file, phase, weights=weights, dialect=dialect, input_shapes=shapes)
    except NetError as error:
        others = differing_layers(file, record)
        told = ["not written as in the record, which may be why:", *others] if others else []
        raise CaffeError(error.problems, "\n  ".join(told)) from error


def _as_gradients_ask(file: NetFile, record: Record) -> NetFile:
    """Gradients of a net without a loss were recorded under ``force_backward``, whatever the file here says."""
    if record.gradients and record.output_diffs and "force_backward: true" in record.prototxt:
        file.message.force_backward = True
    return file


def compare(
    net: Net, record: Record, tolerance: float = TOLERANCE, gradient_tolerance: float = GRADIENT_TOLERANCE
) -> Comparison:
    """Run a net end to end and layer by layer. Raises CaffeError where the two cannot be compared."""
    comparison = Comparison(net, record, tolerance, gradient_tolerance)
    if not comparison.stages:
        raise CaffeError(f"{record.path}: no layer in common with the net; expected a record of this net")
    comparison.end_to_end()
    comparison.run()
    return comparison


def deviates(comparison: Comparison, labels: float = LABELS) -> bool:
    """The verdict."""
    rows = [*comparison.rows, *comparison.gradients]
    few_labels = comparison.labels is not None and comparison.labels < labels
    return bool(any(row.bad for row in rows) or comparison.only or comparison.weights or few_labels)


def describe(comparison: Comparison, labels: float = LABELS) -> str:
    """A table of the first and the worst deviations, and what they mean."""
    lines = []
    for what, rows in (("values", comparison.rows), ("gradients", comparison.gradients)):
        lines += [_table(what, rows), ""] if rows else []
    all_rows = [*comparison.rows, *comparison.gradients]
    culprits = [row for row in all_rows if row.bad and not row.inherited]
    for row in culprits[:_SHOWN]:
        why = "; ".join(row.reasons) or "not known why"
        lines.append(f"deviates by itself: {row.layer} ({row.kind}), {row.what}: {why}")
    inherited = sum(row.bad and row.inherited for row in all_rows)
    lines += [f"inherited from there: {inherited} further deviations"] if inherited else []
    told = {reason for row in culprits[:_SHOWN] for reason in row.reasons}
    lines += [text for texts in comparison.weights.values() for text in texts if text not in told]
    lines += comparison.only
    if comparison.labels is not None:
        few = f" (expected at least {labels:.2%})" if comparison.labels < labels else ""
        lines.append(f"end to end, nothing forced: {comparison.labels:.4%} of the labels are the recorded ones{few}")
    elif comparison.record.is_random:
        lines.append("end to end: not compared, as the net draws at random")
    lines.append("DEVIATES" if deviates(comparison, labels) else "EQUAL: everything is within its tolerance")
    return "\n".join(lines)


def _table(what: str, rows: Sequence[Row]) -> str:
    shown = _chosen(rows)
    cells = [[row.layer, row.kind, row.what, _share(row.deviation), _share(row.allowed), _judged(row)] for row in shown]
    table = tabulate(cells, ["layer", "type", what, "deviation", "allowed", ""], disable_numparse=True)
    left_out = len(rows) - len(shown)
    return table + (f"\n({left_out} more are left out, which deviate later or less)" if left_out else "")


def _chosen(rows: Sequence[Row]) -> list[Row]:
    first = [row for row in rows if row.bad][:_SHOWN]
    worst = sorted(rows, key=lambda row: -row.deviation / row.allowed)[:_SHOWN]
    return [row for row in rows if any(row is one for one in (*first, *worst))]


def _share(value: float) -> str:
    return "other shape, or NaN" if math.isinf(value) else f"{value:.1e}"


def _judged(row: Row) -> str:
    return ("inherited" if row.inherited else "DEVIATES") if row.bad else ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m converters.parity", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("record", help="a .npz that converters/record.py wrote")
    parser.add_argument("--prototxt", metavar="FILE", help="the network to check (default: the one in the record)")
    parser.add_argument("--weights", metavar="FILE", help="its weights (default: where the record says they lay)")
    parser.add_argument("--dialect", choices=DIALECTS, help="whose Caffe recorded (default: what the file gives away)")
    parser.add_argument(
        "--tolerance", type=float, default=TOLERANCE, metavar="SHARE",
        help="largest deviation of a layer, as a share of the blob's largest value (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--gradient-tolerance", type=float, default=GRADIENT_TOLERANCE, metavar="SHARE",
        help="the same of gradients (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--labels", type=float, default=LABELS, metavar="SHARE",
        help="smallest share of labels that agree end to end (default: %(default)s)",
    )  # fmt: skip
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit status."""
    args = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    try:
        record = read_record(args.record)
        net = build(record, args.prototxt, args.weights, args.dialect)
        comparison = compare(net, record, args.tolerance, args.gradient_tolerance)
    except CaffeError as error:
        print(f"error: {error}", file=sys.stderr)
        return NO_COMPARISON
    print(f"recorded by {record.made_by}")
    print(describe(comparison, args.labels))
    return DEVIATING if deviates(comparison, args.labels) else EQUAL


if __name__ == "__main__":
    sys.exit(main())
