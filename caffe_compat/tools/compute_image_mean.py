"""Compute the mean image of a database, or of a list of images.

Every pixel of the mean is written into a .binaryproto, as `mean_file` of a data layer wants it; the means of the
channels, as `mean_value` wants them, are logged. All images must have one size.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError
from tqdm import tqdm

from caffe_compat.data.database import open_database
from caffe_compat.data.datum import datum_image
from caffe_compat.data.images import read_image
from caffe_compat.data.lists import read_images
from caffe_compat.paths import Paths
from caffe_compat.tools.arguments import add_root, add_switch
from caffe_compat.training.report import number
from prototxt.caffe_pb2 import DataParameter, Datum
from prototxt.caffemodel import write_blobproto
from prototxt.errors import FormatError

log = logging.getLogger(__name__)

_BACKENDS = {"lmdb": DataParameter.LMDB, "leveldb": DataParameter.LEVELDB}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Caffe's arguments, and ``--list``."""
    parser.add_argument("source", metavar="DB", help="the folder of a database; with --list, a list of images")
    parser.add_argument("output", nargs="?", metavar="OUT.binaryproto", help="the file to write")
    parser.add_argument("--backend", choices=_BACKENDS, default="lmdb", help="the kind of database (default: lmdb)")
    add_switch(parser, "list", "DB is a text file with an image on each line; what may follow it (a class) is ignored")
    add_root(parser)


def run(args: argparse.Namespace) -> int:
    """Compute."""
    paths = Paths(roots=args.root)
    source = paths.resolve(args.source)
    images = _listed(source, paths) if args.list else _stored(source, _BACKENDS[args.backend])
    mean = _mean(images)
    if args.output:
        log.info("Write to %s", args.output)
        write_blobproto(args.output, mean[None])
    log.info("Number of channels: %d", len(mean))
    for channel, plane in enumerate(mean):
        log.info("mean_value channel [%d]: %s", channel, number(plane.mean(dtype=np.float64)))
    return 0


def _mean(images: Iterator[tuple[str, np.ndarray]]) -> np.ndarray:
    """The mean (C, H, W) of named images (H, W, C) or (H, W)."""
    log.info("Starting iteration")
    total: np.ndarray | None = None
    count = 0
    for name, image in images:
        image = np.atleast_3d(image)
        # Caffe adds up in float32, which is the same as long as the sums are whole numbers below 2^24
        total = np.zeros(image.shape, np.float64) if total is None else total
        if image.shape != total.shape:
            raise FormatError(
                f"{name}: is {image.shape}; expected {total.shape} (height, width, channels), as the first image. A "
                "mean needs images of one size: convert_imageset resizes them"
            )
        total += image
        count += 1
        if count % 10000 == 0:
            log.info("Processed %d files.", count)
    if count % 10000:
        log.info("Processed %d files.", count)
    return (total / count).astype(np.float32).transpose(2, 0, 1)


def _stored(path: Path, backend: int) -> Iterator[tuple[str, np.ndarray]]:
    database = open_database(path, backend)
    for key, value in tqdm(database.walk(None), total=len(database), unit="image", disable=None):
        name = f"{path}: record {key.decode('utf-8', 'replace')!r}"
        try:
            datum = Datum.FromString(bytes(value))
        except DecodeError as error:
            raise FormatError(f"{name}: not a Datum; expected what convert_imageset writes") from error
        yield name, datum_image(datum, None, name)


def _listed(path: Path, paths: Paths) -> Iterator[tuple[str, np.ndarray]]:
    for name in tqdm(read_images(path), unit="image", disable=None):
        yield name, read_image(paths.resolve(name, path))
