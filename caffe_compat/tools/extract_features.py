"""Run a net and keep what some of its blobs hold, item by item.

Every blob goes into an LMDB of its own, with a Datum of floats for each item under the keys 0000000000, 0000000001, …
Where OUT ends with .h5 or .npz it becomes such a file instead, with one array (items, …) under the blob's name. The
net is run in phase TEST, and needs a data layer.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import h5py
import numpy as np
from tqdm import tqdm

from caffe_compat.data.lmdb_writer import new_lmdb
from caffe_compat.errors import NetError
from caffe_compat.net import Net
from caffe_compat.paths import Paths
from caffe_compat.tools.arguments import add_dialect, add_gpu, add_root, count, names, use_device, warn_of_inputs
from prototxt.caffe_pb2 import TEST, Datum
from prototxt.errors import CaffeError, nearest
from prototxt.files import replacing
from prototxt.net_file import find_net

log = logging.getLogger(__name__)

#: Takes the values (N, …) of a batch.
_Put = Callable[[np.ndarray], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Caffe's arguments, by their position."""
    parser.add_argument("weights", metavar="WEIGHTS", help="a .caffemodel or .caffemodel.h5")
    parser.add_argument("model", metavar="PROTOTXT", help="the net")
    parser.add_argument("blobs", metavar="BLOB[,BLOB]", type=names, help="the blobs to keep")
    parser.add_argument("outputs", metavar="OUT[,OUT]", type=names, help="where to, one for each blob")
    parser.add_argument("batches", metavar="N_BATCHES", type=count, help="how many batches to run")
    parser.add_argument("kind", metavar="lmdb|hdf5|npz", nargs="?", choices=_WRITERS, help="default: by OUT's ending")
    parser.add_argument("mode", metavar="CPU|GPU", nargs="?", choices=("CPU", "GPU"), help="as --gpu; default: CPU")
    parser.add_argument("device", metavar="DEVICE_ID", nargs="?", type=int, default=0, help="of the GPU; default: 0")
    add_gpu(parser)
    add_root(parser)
    add_dialect(parser)


def run(args: argparse.Namespace) -> int:
    """Extract."""
    use_device(args.gpu or ([args.device] if args.mode == "GPU" else []))
    path = find_net(args.model)
    net = Net(path, TEST, dialect=args.dialect, roots=args.root)
    net.copy_from(Paths(path, args.root).resolve(args.weights))
    net.keeps_graph = False
    warn_of_inputs(net)
    _check(net, args.blobs, args.outputs)
    log.info("Extracting Features")
    items = dict.fromkeys(args.blobs, 0)
    with ExitStack() as stack:
        puts = [
            stack.enter_context(_WRITERS[args.kind or _ENDINGS.get(Path(output).suffix, "lmdb")](output, blob))
            for blob, output in zip(args.blobs, args.outputs, strict=True)
        ]
        for _ in tqdm(range(args.batches), unit="batch", disable=None):
            net._forward(0, len(net.layers) - 1)
            for blob, put in zip(args.blobs, puts, strict=True):
                values = np.atleast_1d(net.blobs[blob].data)
                put(values)
                items[blob] += len(values)
    for blob, number in items.items():
        log.info("Extracted features of %d query images for feature blob %s", number, blob)
    log.info("Successfully extracted the features!")
    return 0


def _check(net: Net, blobs: Sequence[str], outputs: Sequence[str]) -> None:
    problems = [
        f"the net has no blob {name!r}; {nearest(name, net.blobs) or 'expected one of ' + ', '.join(net.blobs)}"
        for name in blobs
        if name not in net.blobs
    ]
    if len(blobs) != len(outputs) or len(set(outputs)) != len(outputs):
        problems.append(
            f"{', '.join(outputs)} for the blobs {', '.join(blobs)}; expected an output of its own for each blob"
        )
    if problems:
        raise NetError(problems)


@contextmanager
def _lmdb(path: str, blob: str) -> Iterator[_Put]:
    with new_lmdb(path) as database:
        done = 0

        def put(values: np.ndarray) -> None:
            nonlocal done
            if values.ndim > 4:
                raise CaffeError(
                    f"{path}: blob {blob!r} has {values.ndim} axes; expected 4 at most in an LMDB. Write .h5 or .npz"
                )
            for item in values.reshape(*values.shape, *[1] * (4 - values.ndim)):
                channels, height, width = item.shape
                datum = Datum(channels=channels, height=height, width=width, float_data=item.ravel())
                database.put(f"{done:010d}", datum.SerializeToString())
                done += 1

        yield put


@contextmanager
def _hdf5(path: str, blob: str) -> Iterator[_Put]:
    with replacing(path) as draft, h5py.File(draft, "w") as file:

        def put(values: np.ndarray) -> None:
            if blob not in file:
                file.create_dataset(blob, data=values, maxshape=(None, *values.shape[1:]))
                return
            array = file[blob]
            array.resize(len(array) + len(values), axis=0)
            array[-len(values) :] = values

        yield put


@contextmanager
def _npz(path: str, blob: str) -> Iterator[_Put]:
    batches: list[np.ndarray] = []
    with replacing(path) as draft, open(draft, "wb") as file:
        yield lambda values: batches.append(values.copy())
        np.savez(file, **{blob: np.concatenate(batches)})


_WRITERS = {"lmdb": _lmdb, "hdf5": _hdf5, "npz": _npz}
_ENDINGS = {".h5": "hdf5", ".hdf5": "hdf5", ".npz": "npz"}
