"""Benchmark: SegNet's engine against ONNX Runtime, its own convolutions, and plain pooling; its memory; a first answer.

    python -m segnet.bench_engine [--size 384x480]

Contenders take turns in one process with as many threads; the ratios of the medians count, not the times.
"""

from __future__ import annotations

import argparse
import io
import logging
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import torch
import torch.nn.functional as F
from tabulate import tabulate

from caffe_compat import TEST, Net
from caffe_compat.engine.index_pooling import Pool, Unpool
from caffe_compat.engine.rows import STRIP, run_chain
from caffe_compat.tools.arguments import count, image_size
from converters.caffe2torch import main as caffe2torch
from prototxt import text
from prototxt.errors import CaffeError
from prototxt.turns import ratio, take_turns
from segnet.networks import VGG16_STAGES, segnet
from segnet.timing.contenders import Scene, maxunpool, onnxruntime

_MIB = 1 << 20

# A small net has run before, which brings in all code; the peak begins anew after a first pass, as the building of the
# engine and the net that it was built from took more.
_RUN_ENGINE = """
import torch
from caffe_compat import TEST, Net
from segnet.networks import segnet, segnet_basic
def resident(what):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(what)) * 1024
for options in ({{}}, {{{options}}}):
    Net(segnet_basic(16, 16), TEST).engine(**options).labels(torch.rand(1, 3, 16, 16))
least = resident("VmRSS")
engine = Net(segnet({height}, {width}), TEST).engine(**{{{options}}})
for _ in range(2):
    open("/proc/self/clear_refs", "w").write("5")
    engine.labels(torch.rand(1, 3, {height}, {width}))
print(resident("VmHWM") - least - engine.weight_bytes, engine.weight_bytes)
"""
_FIRST_ANSWER = """
import torch
from converters.pt_file import load_pt
load_pt({path!r}).engine().labels(torch.rand(1, 3, {height}, {width})).sum()
"""
_LEAST = """
import sys
import torch
sys.path.insert(0, {folder!r})
from plain import load
with torch.no_grad():
    load({path!r})(torch.rand(1, 3, {height}, {width})).argmax(1).sum()
"""


def engines_against(size: tuple[int, int], rounds: int) -> list[list[str]]:
    """Rows of ratios: engines against ONNX Runtime with its faster model, and against direct convolutions alone."""
    net = Net(segnet(*size), TEST)
    image = torch.rand(1, 3, *size) * 255
    engines = {
        "engine fp32, direct": net.engine(winograd=False),
        "engine fp32": net.engine(),
        "engine bf16": net.engine("bf16"),
    }
    own = "its own convolutions alone"
    contenders: dict[str, Callable[[], object]] = {
        own: engines["engine fp32, direct"].own_convolutions(),
        **{name: lambda engine=engine: engine(image) for name, engine in engines.items()},
    }
    models = _onnx_models(Scene("segnet", net, image, "fp32"))
    seconds = take_turns(contenders | models, rounds)
    fastest = sorted(models, key=lambda name: statistics.median(seconds[name]))[:1]
    return [[f"{name} / {base}", *_ratio(seconds[name], seconds[base])] for base in (*fastest, own) for name in engines]


def _onnx_models(scene: Scene) -> dict[str, Callable[[], object]]:
    """Our own model and one with MaxUnpool in ONNX Runtime, as far as they can be had."""
    made = {}
    for make, name in ((onnxruntime, "ONNX Runtime"), (maxunpool, "ONNX Runtime with MaxUnpool")):
        try:
            made[name] = make(scene)
        except CaffeError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    return made


def pooling_against(size: tuple[int, int], rounds: int) -> list[str]:
    """A row: pooling and upsampling of all five stages, against torch's own on contiguous planes."""
    planes, height, width = [], *size
    for channels in VGG16_STAGES:
        planes.append(torch.rand(1, channels[-1], height, width))
        height, width = (height + 1) // 2, (width + 1) // 2
    last = [plane.contiguous(memory_format=torch.channels_last) for plane in planes]

    def torchs() -> None:
        for plane in planes:
            y, places = F.max_pool2d(plane, 2, 2, ceil_mode=True, return_indices=True)
            F.max_unpool2d(y, places, 2, 2, output_size=plane.shape[2:])

    def ours() -> None:
        """In the strips that a chain is worked off in; what is put back is handed on, not kept."""
        for plane in last:
            rows = plane.shape[2]
            strip = max(2, rows // -(-4 * plane[0].numel() // STRIP) // 2 * 2)
            for first in range(0, rows, strip):
                part = plane[:, :, first : first + strip]
                pooled = run_chain((Pool(True),), (part,), 1)
                run_chain((Unpool(*part.shape[2:]),), pooled, 1)

    seconds = take_turns({"ours": ours, "torch": torchs}, rounds)
    return ["pooling and upsampling / torch's, contiguous", *_ratio(seconds["ours"], seconds["torch"])]


def memory_of(size: tuple[int, int], options: str) -> tuple[float, float]:
    """MiB that one inference takes beyond code and weights, at most, and those of the weights (Linux)."""
    program = _RUN_ENGINE.format(height=size[0], width=size[1], options=options)
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    beyond, weights = map(int, done.stdout.split()[-2:])
    return beyond / _MIB, weights / _MIB


def first_answer(size: tuple[int, int], rounds: int) -> list[str]:
    """A row: from a process's start to the labels of one image, against torch, its load, and a plain forward."""
    with tempfile.TemporaryDirectory() as folder:
        net, saved = Path(folder, "segnet.prototxt"), Path(folder, "segnet.pt")
        net.write_text(text.format(segnet(*size)), "utf-8")
        with redirect_stdout(io.StringIO()):
            caffe2torch([str(net), "--output", str(saved), "--emit", str(Path(folder, "plain.py"))])
        height, width = size
        ours = _FIRST_ANSWER.format(path=str(saved), height=height, width=width)
        least = _LEAST.format(path=str(saved), folder=folder, height=height, width=width)
        seconds = take_turns({"ours": lambda: _python(ours), "least": lambda: _python(least)}, rounds)
    return ["first labels from a .pt / import torch, load, plain forward", *_ratio(seconds["ours"], seconds["least"])]


def _python(program: str) -> None:
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)


def _ratio(ours: list[float], theirs: list[float]) -> list[str]:
    middle, low, high = ratio(ours, theirs)
    return [f"{middle:.2f}", f"{low:.2f} to {high:.2f}"]


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    logging.disable(logging.WARNING)
    parser = argparse.ArgumentParser(prog="python -m segnet.bench_engine", description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=image_size, default=(360, 480), metavar="HxW", help="default: 360x480")
    parser.add_argument("--rounds", type=count, default=7, metavar="N", help="timed runs of each (default: 7)")
    args = parser.parse_args(arguments)
    rows = [
        *engines_against(args.size, args.rounds),
        pooling_against(args.size, args.rounds),
        first_answer(args.size, args.rounds),
    ]
    print(f"SegNet, 1×3×{args.size[0]}×{args.size[1]}, CPU, {torch.get_num_threads()} threads, {args.rounds} rounds")
    print(tabulate(rows, ["", "ratio", "turn by turn"], disable_numparse=True))
    if sys.platform == "linux":
        for name, options in (("direct", "'winograd': False"), ("Winograd", ""), ("bf16", "'precision': 'bf16'")):
            beyond, weights = memory_of(args.size, options)
            print(f"memory, {name}: {beyond:.0f} MiB beyond code and weights, which take {weights:.0f} MiB")


if __name__ == "__main__":
    main()
