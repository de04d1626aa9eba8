"""Benchmark: peak memory while weights are loaded into a net, beyond the net itself.

python -m caffe_compat.bench_load
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from caffe_compat import TEST, Net
from prototxt.net_file import find_net

_NET = "segnet"
_STEPS = ("make", "build", "load")


def _step(step: str, weights: Path) -> int:
    """Do one step in this process. Returns the largest resident memory so far, in bytes (Linux counts in KiB)."""
    net = Net(find_net(_NET), TEST)
    for param in net.parameters():  # touch every page: memory that was only reserved does not count
        param.data.mul_(1)
    if step == "make":
        net.save(weights)
    elif step == "load":
        net.copy_from(weights)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """The command. Each step runs in a process of its own, since a peak never goes down."""
    parser = argparse.ArgumentParser(prog="python -m caffe_compat.bench_load", description=__doc__.split("\n")[0])
    parser.add_argument("--step", choices=_STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        print(_step(args.step, args.file))
        return
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "generated.caffemodel"
        peaks = {}
        for step in _STEPS:
            command = [sys.executable, "-m", "caffe_compat.bench_load", "--step", step, "--file", str(weights)]
            peaks[step] = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        size = weights.stat().st_size
    extra = peaks["load"] - peaks["build"]
    print(
        f"{_NET}: a caffemodel of {size / 1e6:.1f} MB; the peak of loading it is {extra / 1e6:.1f} MB above the net's"
    )
    print(f"own, {extra / size:.2f} of the file's size (the file's pages in memory count)")


if __name__ == "__main__":
    main()
