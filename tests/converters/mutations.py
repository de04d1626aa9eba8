"""Reads damaged model files of every kind, and tells what memory that took: a program of its own, for the tests.

    python -m tests.converters.mutations FOLDER COUNT [SEED]

Each of COUNT mutations of each file is read, or refused with a CaffeError; anything else ends the program. Printed:
how many of each kind were refused, and by how many MiB the process grew at most while it read them.
"""

import logging
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import caffe_compat as caffe
from converters import record
from converters.parity import build, compare
from converters.pt_file import load_pt, save_pt
from converters.record_file import read_record
from prototxt.caffemodel import read_blobproto, write_blobproto
from prototxt.errors import CaffeError
from prototxt.net_file import parse_net, read_net
from prototxt.solverstate import SolverState, read_solverstate, write_solverstate
from prototxt.weights_h5 import read_weights
from tests.caffe_compat.nets import AUTOENCODER


def _weights(path: Path) -> None:
    for layer in read_weights(path).layers:
        for blob in layer.blobs:
            if blob is not None:
                blob.data.sum()


def _net(path: Path) -> None:
    caffe.Net(read_net(path), caffe.TEST)


def _parity(path: Path) -> None:
    kept = read_record(path)
    compare(build(kept), kept)


#: file → what reads it, its values included.
READERS: dict[str, Callable[[Path], object]] = {
    "net.prototxt": _net,
    "net.caffemodel": _weights,
    "net_enet.caffemodel": _weights,
    "net.caffemodel.h5": _weights,
    "net.solverstate": read_solverstate,
    "net.solverstate.h5": read_solverstate,
    "mean.binaryproto": read_blobproto,
    "net.pt": load_pt,
    "legacy.pt": load_pt,
    "record.npz": _parity,
}


def write_all(folder: Path) -> None:
    """A good file of every kind."""
    (folder / "net.prototxt").write_text(AUTOENCODER)
    net = caffe.Net(parse_net(AUTOENCODER), caffe.TEST)
    net.save(str(folder / "net.caffemodel"))
    net.save(str(folder / "net_enet.caffemodel"), dialect="enet")
    net.save(str(folder / "net.caffemodel.h5"))
    for name in ("net.solverstate", "net.solverstate.h5"):
        write_solverstate(folder / name, SolverState(7, "net.caffemodel", 1, [np.ones((3, 4), "f4"), np.ones(4, "f4")]))
    write_blobproto(folder / "mean.binaryproto", np.ones((1, 3, 4, 5), "f4"))
    save_pt(net, folder / "net.pt", trained=True)
    torch.save(torch.load(folder / "net.pt", weights_only=True), folder / "legacy.pt",
               _use_new_zipfile_serialization=False)  # fmt: skip
    paths = [str(folder / name) for name in ("net.prototxt", "net.caffemodel")]
    record.main([*paths, "--caffe", "caffe_compat", "--random", "1", "--output", str(folder / "record.npz")])


def mutated(content: bytes, random: np.random.Generator) -> bytes:
    """One of: cut off, some bytes changed, a piece taken out, a piece written twice."""
    at, length = int(random.integers(len(content))), int(random.integers(1, 64))
    kind = random.integers(6)
    if kind == 0:
        return content[:at]
    if kind == 1:
        return content[:at] + content[at + length :]
    if kind == 2:
        return content[: at + length] + content[at:]
    changed = bytearray(content)
    span = len(content) if kind == 3 else min(len(content), 512)  # headers lie in front
    for place in random.integers(span, size=int(random.integers(1, 5))):
        changed[place] = random.choice([0, 0x7F, 0x80, 0xFF, int(random.integers(256))])
    return bytes(changed)


def resident(what: str) -> int:
    """VmRSS, or the largest so far, VmHWM, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(what)))


def main(folder: Path, count: int, seed: int = 0) -> None:
    """The program."""
    logging.disable()
    write_all(folder)
    for name, read in READERS.items():
        read(folder / name)  # the good one: what reading loads is there from here on
    before = resident("VmRSS:")
    for name, read in READERS.items():
        random = np.random.default_rng(seed)
        content, path = (folder / name).read_bytes(), folder / f"mutated_{name}"
        refused = 0
        for number in range(count):
            path.unlink(missing_ok=True)  # what is still mapped stays what it was
            path.write_bytes(mutated(content, random))
            try:
                read(path)
            except CaffeError:
                refused += 1
            except BaseException:
                print(f"{name}: mutation {number} of seed {seed}", file=sys.stderr)
                raise
        print(name, refused)
    print("MiB", (resident("VmHWM:") - before) // 1024)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
