"""Make tables of a training log: LOG.train and LOG.test, with commas between, and a picture of them if wanted.

The columns are NumIters, Seconds since the start, LearningRate, and the outputs of the net. A blob with several values
has a column for each.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from caffe_compat.tools.log_tables import read_log, write_csv
from caffe_compat.tools.plot import plot_losses, plot_tables
from prototxt.errors import CaffeError, MissingFileError

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """From where to where."""
    parser.add_argument("log", metavar="LOG", help="what a training wrote to stderr, by Caffe or here")
    parser.add_argument("folder", metavar="OUTDIR", help="the folder to write to")
    parser.add_argument("--plot", metavar="CURVES.png", help="also draw loss and accuracy against the iterations")
    parser.add_argument("--beside", metavar="LOG", help="draw the losses of both logs, and nothing else")


def run(args: argparse.Namespace) -> int:
    """Parse."""
    if args.beside and not args.plot:
        raise CaffeError("--beside without --plot; expected the picture's name with --plot")
    tables = read_log(args.log)
    other = read_log(args.beside) if args.beside else None
    if not Path(args.folder).is_dir():
        raise MissingFileError(f"{args.folder}: there is no such folder; create it first")
    for name, table in tables._asdict().items():
        path = Path(args.folder, f"{Path(args.log).name}.{name}")
        write_csv(table, path)
        log.info("Wrote %d rows to %s", len(table.rows), path)
    if args.plot:
        if other is None:
            plot_tables(tables, args.plot)
        else:
            plot_losses({args.log: tables, args.beside: other}, args.plot)
        log.info("Wrote %s", args.plot)
    return 0
