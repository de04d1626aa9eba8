"""How fast and in how much memory a weights file of SegNet's size is read, against numpy reading the same bytes.

    python -m prototxt.bench_read [--rounds N]

Both sides read a file of random floats into arrays and add up every value, taking turns in one process. Memory is
the peak of a process of its own, over that of one which imports the same and reads nothing.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np

from prototxt import caffe_pb2
from prototxt.blobs import BlobArray
from prototxt.caffemodel import new_caffemodel, read_caffemodel
from prototxt.turns import ratio, take_turns

# SegNet's encoder is VGG-16's thirteen convolutions, its decoder their mirror image; each has batch normalisation.
_ENCODER = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
_WIDTHS = (*_ENCODER, *_ENCODER[:0:-1][1:], 12)

# VmHWM begins anew with the program; ru_maxrss would count the process that started it.
_TELL_PEAK = """
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
_IMPORT = "from prototxt.caffemodel import read_caffemodel"
_READ = """
print(sum(float(blob.data.sum()) for layer in read_caffemodel({path!r}).layers for blob in layer.blobs))
"""


def write_segnet_sized(path: Path, seed: int = 0) -> None:
    """A weights file with SegNet's parameters, 118 MB of random values."""
    random = np.random.default_rng(seed)
    net = caffe_pb2.NetParameter(name="segnet")
    blobs: dict[int, list[np.ndarray]] = {}
    for index, (inputs, outputs) in enumerate(pairwise(_WIDTHS)):
        for kind, shapes in (
            ("Convolution", ((outputs, inputs, 3, 3), (outputs,))),
            ("BN", ((1, outputs, 1, 1), (1, outputs, 1, 1))),
        ):
            blobs[len(net.layer)] = [random.standard_normal(shape, np.float32) for shape in shapes]
            net.layer.add(name=f"{kind.lower()}{index}", type=kind)
    new_caffemodel(net, blobs).write(path)


def read_as_caffemodel(path: Path) -> float:
    """Sum of all values, through this package."""
    return sum(float(blob.data.sum()) for blob in _blobs(path))


def _blobs(path: Path) -> list[BlobArray]:
    return [blob for layer in read_caffemodel(path).layers for blob in layer.blobs]


def read_as_numpy(path: Path) -> float:
    """Sum of all values of a plain file of floats."""
    return float(np.fromfile(path, "<f4").sum())


def peak_bytes(program: str) -> int:
    """Peak resident memory of a process that runs a Python program (Linux)."""
    result = subprocess.run([sys.executable, "-c", program + _TELL_PEAK], check=True, capture_output=True, text=True)
    return int(result.stdout.split()[-1]) * 1024


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="how often each side reads (default 9)")
    rounds = parser.parse_args(arguments).rounds
    with tempfile.TemporaryDirectory() as folder:
        weights, plain = Path(folder, "segnet.caffemodel"), Path(folder, "floats.bin")
        write_segnet_sized(weights)
        np.concatenate([blob.data.ravel() for blob in _blobs(weights)]).tofile(plain)
        times = take_turns(
            {"caffemodel": lambda: read_as_caffemodel(weights), "numpy.fromfile": lambda: read_as_numpy(plain)}, rounds
        )
        size = weights.stat().st_size
        print(f"file: {size / 1e6:.1f} MB, {rounds} rounds, taking turns")
        for name, taken in times.items():
            print(
                f"{name:>15}: median {1e3 * statistics.median(taken):6.1f} ms, "
                f"{1e3 * min(taken):.1f} to {1e3 * max(taken):.1f} ms"
            )
        middle, low, high = ratio(*times.values())
        print(f"{'ratio':>15}: {middle:.2f} (turn by turn {low:.2f} to {high:.2f})")
        if sys.platform == "linux":
            peak = peak_bytes(_IMPORT + _READ.format(path=str(weights))) - peak_bytes(_IMPORT)
            print(f"{'peak memory':>15}: {peak / 1e6:.1f} MB, {peak / size:.2f} of the file's size")


if __name__ == "__main__":
    main()
