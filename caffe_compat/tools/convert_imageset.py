"""Write images and their classes into an LMDB, for a Data layer.

LIST has a line `path class` for each image; the path is looked for below ROOT. Images are decoded and resized as Caffe
does it, bit by bit, and stored as pixels, or as image files with --encoded. An image that cannot be read is logged and
left out. The database appears when it is complete.
"""

from __future__ import annotations

import argparse
import io
import logging
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from caffe_compat.data.datum import image_datum
from caffe_compat.data.images import decode_image, read_image
from caffe_compat.data.lists import read_labelled
from caffe_compat.data.lmdb_writer import new_lmdb
from caffe_compat.data.resize import bilinear
from caffe_compat.paths import Paths
from caffe_compat.tools.arguments import add_root, add_switch
from prototxt.caffe_pb2 import Datum
from prototxt.errors import CaffeError, FormatError, MissingFileError, nearest

log = logging.getLogger(__name__)

_JPEG_QUALITY = 95  # OpenCV's


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Caffe's flags."""
    parser.add_argument("folder", metavar="ROOT/", help="the folder that the list's paths start from")
    parser.add_argument("list", metavar="LIST.txt", help="lines `path class`")
    parser.add_argument("database", metavar="DB_NAME", help="the folder to write")
    parser.add_argument("--backend", choices=("lmdb",), default="lmdb", help="the kind of database (default: lmdb)")
    parser.add_argument("--resize_height", type=int, default=0, metavar="N", help="height of all images")
    parser.add_argument("--resize_width", type=int, default=0, metavar="N", help="width of all images")
    add_switch(parser, "gray", "store images in grey")
    add_switch(parser, "shuffle", "store them in random order")
    add_switch(parser, "check_size", "stop at an image of another size than the first")
    add_switch(parser, "encoded", "store image files instead of pixels: as they are, if nothing has to change")
    parser.add_argument(
        "--encode_type", default="", metavar="TYPE", help="store them as png, jpg, …; implies --encoded"
    )
    add_root(parser)


def run(args: argparse.Namespace) -> int:
    """Convert."""
    if (args.resize_height > 0) != (args.resize_width > 0):
        raise CaffeError(
            f"--resize_height {args.resize_height} and --resize_width {args.resize_width}; expected both or neither"
        )
    if args.encode_type:
        _format(args.encode_type)
    paths = Paths(roots=args.root)
    list_file = paths.resolve(args.list)
    lines = read_labelled(list_file)
    if args.shuffle:
        log.info("Shuffling data")
        lines = [lines[i] for i in torch.randperm(len(lines)).tolist()]
    log.info("A total of %d images.", len(lines))
    folder = args.folder if args.folder.endswith("/") or not args.folder else args.folder + "/"
    size: tuple[int, ...] | None = None
    done = 0
    with new_lmdb(args.database) as database:
        for number, (name, label) in enumerate(tqdm(lines, unit="image", disable=None)):
            try:
                path = paths.resolve(folder + name, list_file)
                image = _read(path, args)
            except (MissingFileError, FormatError) as error:
                log.error("%s: left out", str(error).partition("; looked")[0])
                continue
            size = size or image.shape
            if args.check_size and image.shape != size:
                raise CaffeError(
                    f"{path}: is {_words(image.shape)}; expected {_words(size)} (height×width×channels), as the first "
                    "image. Give --resize_height and --resize_width, or leave --check_size out"
                )
            datum = _datum(path, image, label, args)
            database.put(f"{number:08d}_{name}", datum.SerializeToString())
            done += 1
            if done % 1000 == 0:
                log.info("Processed %d files.", done)
        if not done:
            raise CaffeError(f"{list_file}: no image of it can be read below {folder!r}; nothing was written")
    if done % 1000:
        log.info("Processed %d files.", done)
    return 0


def _read(path: Path, args: argparse.Namespace) -> np.ndarray:
    image = read_image(path, not args.gray)
    return bilinear(image, args.resize_height, args.resize_width) if args.resize_height > 0 else image


def _datum(path: Path, image: np.ndarray, label: int, args: argparse.Namespace) -> Datum:
    if not (args.encoded or args.encode_type):
        return image_datum(image, label)
    own_type = path.suffix.lstrip(".")
    if _stays(path, own_type, args):
        return Datum(data=path.read_bytes(), label=label, encoded=True)
    if image.dtype != np.uint8 or (image.ndim == 3 and image.shape[2] != 3):
        raise CaffeError(f"{path}: no image format holds {_words(image.shape)} {image.dtype}; leave --encoded out")
    buffer = io.BytesIO()
    rgb = image if image.ndim == 2 else image[:, :, ::-1]
    Image.fromarray(rgb).save(buffer, _format(args.encode_type or own_type), quality=_JPEG_QUALITY)
    return Datum(data=buffer.getvalue(), label=label, encoded=True)


def _stays(path: Path, own_type: str, args: argparse.Namespace) -> bool:
    """Whether the file holds already what is to be stored."""
    if args.resize_height > 0 or own_type.lower() == "npy":
        return False
    if args.encode_type and _format(args.encode_type) != Image.registered_extensions().get("." + own_type.lower()):
        return False
    return not args.gray or decode_image(path.read_bytes(), None, path).ndim == 2


def _format(type_name: str) -> str:
    """Pillow's name of an image format. Raises CaffeError."""
    known = {ending.lstrip("."): name for ending, name in Image.registered_extensions().items() if name in Image.SAVE}
    if type_name.lower() not in known:
        raise CaffeError(
            f"images cannot be stored as {type_name!r}; expected an --encode_type such as png or jpg. "
            f"{nearest(type_name, known)}"
        )
    return known[type_name.lower()]


def _words(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape if len(shape) == 3 else (*shape, 1)))
