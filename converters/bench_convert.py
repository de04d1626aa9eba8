"""Benchmark: converting SegNet's weights (118 MB), the whole process, against importing torch and copying the file.

python -m converters.bench_convert
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from caffe_compat import TEST, Net
from prototxt.net_file import find_net
from prototxt.turns import ratio, take_turns


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m converters.bench_convert", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="timed runs of each side (default: 7)")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder, "segnet.caffemodel")
        Net(find_net("segnet"), TEST).save(weights)
        least = "import torch, copy"
        seconds = take_turns(
            {
                least: lambda: (_python("-c", "import torch"), shutil.copyfile(weights, Path(folder, "copy"))),
                **{ending: _conversion(weights, ending) for ending in ("pt", "safetensors")},
            },
            rounds,
        )
        print(f"{weights.stat().st_size / 1e6:.0f} MB, {rounds} rounds in turns, whole processes")
    print(f"{least}: median {statistics.median(seconds[least]):.2f} s")
    for ending in ("pt", "safetensors"):
        middle, low, high = ratio(seconds[ending], seconds[least])
        print(f"caffe2torch to {ending}: {middle:.2f} of that (turn by turn {low:.2f} to {high:.2f})")


def _conversion(weights: Path, ending: str) -> Callable[[], None]:
    output = weights.with_suffix(f".{ending}")
    words = ("-m", "converters.caffe2torch", "segnet", "--weights", weights, "--output", output, "--force")
    return lambda: _python(*words)


def _python(*words: str | Path) -> None:
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
